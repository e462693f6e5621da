"""MobileOne: MobileNet's layers with branches that training needs and inference does not. Vasu et al., 2022

arXiv:2206.04040. Depthwise and pointwise layers in turn, each a sum of convolutions and the input;
`layers.reparam.reparameterize` makes one convolution of each.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import ramp
from ..layers.init import initialise, kaiming_out
from ..layers.reparam import ConvSum
from ..registry import about, family
from ..width import Width
from .repvgg import layer, squeeze, ungated

DEPTHS = (2, 8, 10, 1)


@family(
    about(
        title="MobileOne: An Improved One millisecond Mobile Backbone",
        arxiv="2206.04040",
        licence="MIT",
        dilates=True,
    ),
    mobileone_s0=dict(dims=(48, 128, 256, 1024), copies=4),
    mobileone_s1=dict(dims=(96, 192, 512, 1280)),
    mobileone_s2=dict(dims=(96, 256, 640, 2048)),
    mobileone_s3=dict(dims=(128, 320, 768, 2048)),
    mobileone_s4=dict(dims=(192, 448, 896, 2048), gated=(0, 0, 5, 1)),
)
def mobileone(
    dims: Sequence[int],
    depths: Sequence[int] = DEPTHS,
    copies: int = 1,
    gated: Sequence[int] = (0, 0, 0, 0),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`copies` of every convolution are added up; the last `gated` pairs of each stage have gates."""
    first, drop = Width(min(64, dims[0]), "stem"), ramp(drop_path_rate, 2 * sum(depths) + 1)
    stem = layer(ConvSum(in_chans, first, 3, 2, drop=next(drop)), first, ungated)
    cin, wide, stages = first, [first], []
    for size, depth, gates in zip(dims, depths, gated):
        blocks: list[nn.Module] = []
        dim = cin if cin == size else Width(size, "dim")  # a layer that keeps its channels adds its input
        for j in range(depth):
            gate, stride = squeeze if depth - j <= gates else ungated, 1 if j else 2
            blocks.append(layer(ConvSum(cin, cin, 3, stride, cin, copies, next(drop)), cin, gate))
            blocks.append(layer(ConvSum(cin, dim, 1, copies=copies, drop=next(drop)), dim, gate))
            cin = dim
        stages.append(Stage(blocks))
        wide.append(cin)
    backbone = Pyramid(stem, stages, wide, [2, 4, 8, 16, 32])
    net = Network(backbone, Classifier(cin, num_classes, drop=drop_rate))
    initialise(net.backbone, conv=kaiming_out)
    return net


def rules(theirs: str, ours: str) -> str:
    """Rules for the branches of a layer."""
    return f"""
    {theirs}.conv_kxk.{{i}}.conv -> {ours}.conv.convs.{{i}}.conv
    {theirs}.conv_kxk.{{i}}.bn   -> {ours}.conv.convs.{{i}}.norm
    {theirs}.conv_scale.conv   -> {ours}.conv.point.conv
    {theirs}.conv_scale.bn     -> {ours}.conv.point.norm
    {theirs}.identity          -> {ours}.conv.identity
    {theirs}.attn.fc1          -> {ours}.gate.reduce
    {theirs}.attn.fc2          -> {ours}.gate.expand"""


TIMM = rules("stem", "backbone.stem") + rules("stages.{s}.{b}", "backbone.stages.{s}.blocks.{b}") + "\nhead -> head"
