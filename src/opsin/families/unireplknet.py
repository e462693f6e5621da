"""UniRepLKNet: few large kernels see far, small ones and wide channel mixers do the rest. Ding et al., 2023

arXiv:2311.15599, arXiv:2410.08049. A 13x13 depthwise kernel trains beside dilated small ones; gates and channels that
compete over the map follow it. `layers.reparam.reparameterize` leaves one convolution and two linear layers a block.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..blocks import Classifier, Network, Pyramid, Stage
from ..channels.response import ResponseMlp
from ..layers import DropPath, LayerNorm, Scale, SqueezeExcite, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..layers.norm import GlobalResponseNorm
from ..layers.reparam import Mergeable
from ..mixers.dilated_sum import DilatedSum
from ..registry import about, family
from ..width import Width, each


class UniRepLKBlock(nn.Module):
    """x + drop(scale(norm(mlp(gate(mixer(x)))))), the mixer ending in a norm; a kernel of 0 mixes nothing"""

    mixer: Any
    mlp: Any
    norm: Any
    scale: Any

    def __init__(self, dim: int, kernel: int, drop: float = 0.0):
        super().__init__()
        self.mixer, self.gate = mixer(dim, kernel), SqueezeExcite(dim, dim // 4)
        self.mlp, self.norm = ResponseMlp(dim, bias=False), nn.BatchNorm2d(dim)
        self.scale, self.drop = Scale(dim, axis=1), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.gate(self.mixer(x))
        y = self.mlp(y.movedim(1, -1)).movedim(-1, 1)
        return x + self.drop(self.scale(self.norm(y)))

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The same function without norms, scale, branches and the response norm's bias."""
        block = copy.deepcopy(self).eval()
        if isinstance(self.mixer, nn.Sequential):
            conv: Any = block.mixer.dwconv
            conv = conv.merged() if isinstance(conv, Mergeable) else conv
            block.mixer = fuse_conv_bn_eval(conv, block.mixer.norm)
        old, new, norm = self.mlp.norm, GlobalResponseNorm(self.mlp.norm.dim, bias=False), self.norm
        new.weight = old.weight
        gain = norm.weight / (norm.running_var + norm.eps).sqrt() * self.scale.gamma
        fc2 = nn.Linear(self.mlp.fc2.in_features, self.mlp.fc2.out_features)
        shift = self.mlp.fc2.weight @ old.bias - norm.running_mean
        fc2.weight.data, fc2.bias.data = (
            self.mlp.fc2.weight * gain[:, None],
            shift * gain + norm.bias * self.scale.gamma,
        )
        block.mlp.norm, block.mlp.fc2 = new, fc2
        block.norm, block.scale = nn.Identity(), nn.Identity()
        return block


def mixer(dim: int, kernel: int) -> nn.Module:
    """norm(dwconv(x)), large kernels with their branches"""
    if not kernel:
        return nn.Identity()
    small = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False) if kernel < 7 else None
    return nn.Sequential(OrderedDict(dwconv=small or DilatedSum(dim, kernel), norm=nn.BatchNorm2d(dim)))


def down(cin: int, cout: int) -> list[nn.Module]:
    return [nn.Conv2d(cin, cout, 3, 2, 1), LayerNorm(cout, dim=1)]


SMALL = dict(kernels=((3,), (13,), (13,), (13,)))
TINY = dict(kernels=((3,), (13,), (13, 3), (13,)))
LARGE: dict[str, Any] = dict(depths=(3, 3, 27, 3), kernels=((3,), (13,), (13, 3, 3), (13,)))


@family(
    about(
        title="UniRepLKNet: A Universal Perception Large-Kernel ConvNet for Audio, Video, Point Cloud, Time-Series "
        "and Image Recognition",
        arxiv="2311.15599",
        licence="Apache-2.0",
    ),
    unireplknet_a=dict(depths=(2, 2, 6, 2), dims=(40, 80, 160, 320), **SMALL),
    unireplknet_f=dict(depths=(2, 2, 6, 2), dims=(48, 96, 192, 384), **SMALL),
    unireplknet_p=dict(depths=(2, 2, 6, 2), dims=(64, 128, 256, 512), **SMALL),
    unireplknet_n=dict(depths=(2, 2, 8, 2), dims=(80, 160, 320, 640), **SMALL),
    unireplknet_t=dict(depths=(3, 3, 18, 3), dims=(80, 160, 320, 640), **TINY),
    unireplknet_s=dict(dims=(96, 192, 384, 768), **LARGE),
    unireplknet_b=dict(dims=(128, 256, 512, 1024), native=384, **LARGE),
    unireplknet_l=dict(dims=(192, 384, 768, 1536), native=384, **LARGE),
    unireplknet_xl=dict(dims=(256, 512, 1024, 2048), native=384, **LARGE),
)
def unireplknet(
    depths: Sequence[int],
    dims: Sequence[int],
    kernels: Sequence[Sequence[int]],
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`kernels` of each stage's blocks, repeated over the stage."""
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    hidden = Width(dims[0] // 2, "stem")
    stem = nn.Sequential(*down(in_chans, hidden), GELU(), *down(hidden, dims[0]))
    stages = [
        Stage(
            [UniRepLKBlock(dims[i], kernels[i][j % len(kernels[i])], next(drop)) for j in range(depth)],
            nn.Sequential(*down(dims[i - 1], dims[i])) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    head = Classifier(dims[-1], num_classes, after=LayerNorm(dims[-1]), drop=drop_rate)
    net = Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, conv=trunc02, linear=trunc02)
    return net


ENDS = """
    downsample_layers.0          -> backbone.stem
    downsample_layers.{s}        -> backbone.stages.{s}.down
    norm                         -> head.after
    head                         -> head.fc
"""
BLOCK = """
    {at}dwconv.lk_origin         -> {to}mixer.dwconv.large.conv
    {at}dwconv.origin_bn         -> {to}mixer.dwconv.large.norm
    {at}dwconv.dil_conv_k{k}_{d} -> {to}mixer.dwconv.beside.k{k}d{d}.conv
    {at}dwconv.dil_bn_k{k}_{d}   -> {to}mixer.dwconv.beside.k{k}d{d}.norm
    {at}dwconv                   -> {to}mixer.dwconv
    {at}norm                     -> {to}mixer.norm
    {at}gamma                    -> {to}scale.gamma
    {at}pwconv2.2                -> {to}norm
"""
MERGED = """
    {at}dwconv.lk_origin         -> {to}mixer
    {at}dwconv                   -> {to}mixer
"""
MLP = """
    {at}se.down                  -> {to}gate.reduce
    {at}se.up                    -> {to}gate.expand
    {at}pwconv1.1                -> {to}mlp.fc1
    {at}act.1.gamma              -> {to}mlp.norm.weight
    {at}act.1.beta               -> {to}mlp.norm.bias
    {at}pwconv2.0                -> {to}mlp.fc2
"""


def block(rules: str, at: str = "stages.{s}.{b}.", to: str = "backbone.stages.{s}.blocks.{b}.") -> str:
    """Rules for published blocks that stand at `at`."""
    return (rules + MLP).replace("{at}", at).replace("{to}", to)


AUTHORS = block(BLOCK) + ENDS
AUTHORS_MERGED = block(MERGED) + ENDS
