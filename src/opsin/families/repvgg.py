"""RepVGG: trains with three branches, runs as a plain VGG. Ding et al., 2021, arXiv:2101.03697

Every layer is a 3x3, a 1x1 and the input, each normalised and added up; `layers.reparam.reparameterize` makes one
3x3 of them. `g4` groups every second layer; `se` gates every one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import SqueezeExcite, ramp, relu
from ..layers.init import initialise, kaiming_out
from ..layers.reparam import ConvSum
from ..registry import about, family
from ..width import Groups, Width

A, B, D = (2, 4, 14, 1), (4, 6, 16, 1), (8, 14, 24, 1)
Gate = Callable[[int], nn.Module]


def squeeze(dim: int) -> nn.Module:
    return SqueezeExcite(dim, dim // 16)


def ungated(dim: int) -> nn.Module:
    return nn.Identity()


def layer(conv: ConvSum, cout: int, gate: Gate) -> nn.Module:
    """act(gate(conv(x)))"""
    return nn.Sequential(OrderedDict(conv=conv, gate=gate(cout), act=relu()))


@family(
    about(title="RepVGG: Making VGG-style ConvNets Great Again", arxiv="2101.03697", licence="MIT", dilates=True),
    repvgg_a0=dict(depths=A, wide=(0.75, 2.5)),
    repvgg_a1=dict(depths=A, wide=(1.0, 2.5)),
    repvgg_a2=dict(depths=A, wide=(1.5, 2.75)),
    repvgg_b0=dict(depths=B, wide=(1.0, 2.5)),
    repvgg_b1=dict(depths=B, wide=(2.0, 4.0)),
    repvgg_b2=dict(depths=B, wide=(2.5, 5.0)),
    repvgg_b3=dict(depths=B, wide=(3.0, 5.0)),
    repvgg_b1g4=dict(depths=B, wide=(2.0, 4.0), groups=4),
    repvgg_b2g4=dict(depths=B, wide=(2.5, 5.0), groups=4),
    repvgg_b3g4=dict(depths=B, wide=(3.0, 5.0), groups=4),
    repvgg_d2se=dict(depths=D, wide=(2.5, 5.0), gate=squeeze, native=320),
)
def repvgg(
    depths: Sequence[int],
    wide: tuple[float, float],
    groups: int = 1,
    gate: Gate = ungated,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`wide` scales the channels of all stages but the last, and of the last; every second layer has `groups`."""
    a, b = wide
    sizes = [int(size * scale) for size, scale in zip((64, 128, 256, 512), (a, a, a, b))]
    dims = [Groups(groups, Width(size // groups, "dim")) if groups > 1 else Width(size, "dim") for size in sizes]
    first, drop = Width(min(64, sizes[0]), "stem"), ramp(drop_path_rate, sum(depths) + 1)
    stem = layer(ConvSum(in_chans, first, 3, 2, drop=next(drop)), first, gate)
    stages = [
        Stage(
            layer(ConvSum(dim if j else cin, dim, 3, 1 if j else 2, groups if j % 2 else 1, drop=next(drop)), dim, gate)
            for j in range(depth)
        )
        for cin, dim, depth in zip([first, *dims], dims, depths)
    ]
    backbone = Pyramid(stem, stages, [first, *dims], [2, 4, 8, 16, 32])
    net = Network(backbone, Classifier(dims[-1], num_classes, drop=drop_rate))
    initialise(net.backbone, conv=kaiming_out)
    return net


def rules(theirs: str, ours: str) -> str:
    """Rules for the branches of a layer."""
    return f"""
    {theirs}.conv_kxk.conv     -> {ours}.conv.convs.0.conv
    {theirs}.conv_kxk.bn       -> {ours}.conv.convs.0.norm
    {theirs}.conv_1x1.conv     -> {ours}.conv.point.conv
    {theirs}.conv_1x1.bn       -> {ours}.conv.point.norm
    {theirs}.identity          -> {ours}.conv.identity
    {theirs}.attn.fc1          -> {ours}.gate.reduce
    {theirs}.attn.fc2          -> {ours}.gate.expand"""


TIMM = rules("stem", "backbone.stem") + rules("stages.{s}.{b}", "backbone.stages.{s}.blocks.{b}") + "\nhead -> head"
