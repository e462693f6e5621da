"""HorNet: a ConvNeXt whose mixer multiplies places. Rao et al., 2022, arXiv:2207.14284

Gated convolutions of order 2 to 5 from stage to stage take the place of the depthwise one; as in a transformer, mixer
and channel mixer are two residuals. In the `gf` forms half of the channels of the last two stages see all places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm, Scale, ramp
from ..layers.init import initialise, trunc02
from ..mixers.gnconv import GlobalNear, GnConv
from ..registry import about, family
from ..width import each
from .convnext import halve

Make = Callable[[int], nn.Module]


class HorNetBlock(nn.Module):
    """x + drop(scale1(mixer(norm1(x)))), then x + drop(scale2(mlp(norm2(x)))); maps (B, C, H, W)"""

    def __init__(self, dim: int, mixer: Make, drop: float = 0.0):
        super().__init__()
        self.norm1, self.mixer, self.scale1 = LayerNorm(dim, dim=1), mixer(dim), Scale(dim, axis=1)
        self.norm2, self.mlp, self.scale2 = LayerNorm(dim), Mlp(dim), Scale(dim)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.scale1(self.mixer(self.norm1(x))))
        y = self.scale2(self.mlp(self.norm2(x.movedim(1, -1))))
        return x + self.drop(y.movedim(-1, 1))


PLAIN = tuple(partial(GnConv, order=order) for order in (2, 3, 4, 5))


def filters(rows: int) -> dict[str, Any]:
    """Filters over all places in the last two stages, for maps that have so many rows in the third."""
    third, last = (rows, rows // 2 + 1), (rows // 2, rows // 4 + 1)
    wide = [
        partial(GnConv, order=order, spread=partial(GlobalNear, grid=grid)) for order, grid in ((4, third), (5, last))
    ]
    return dict(mixers=(*PLAIN[:2], *wide))


@family(
    about(
        title="HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions",
        arxiv="2207.14284",
        licence="MIT",
    ),
    hornet_tiny_7x7=dict(dim=64),
    hornet_tiny_gf=dict(dim=64, **filters(14)),
    hornet_small_7x7=dict(dim=96),
    hornet_small_gf=dict(dim=96, **filters(14)),
    hornet_base_7x7=dict(dim=128),
    hornet_base_gf=dict(dim=128, **filters(14)),
    hornet_base_gf_img384=dict(dim=128, native=384, **filters(24)),
    hornet_large_7x7=dict(dim=192),
    hornet_large_gf=dict(dim=192, **filters(14)),
    hornet_large_gf_img384=dict(dim=192, native=384, **filters(24)),
)
def hornet(
    dim: int,
    depths: Sequence[int] = (2, 3, 18, 2),
    mixers: Sequence[Make] = PLAIN,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dims, drop = each(*[dim * 2**i for i in range(4)]), ramp(drop_path_rate, sum(depths))
    stages = [
        Stage(
            [HorNetBlock(dims[i], mixers[i], next(drop)) for _ in range(depth)],
            halve(dims[i - 1], dims[i]) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 4, 4), LayerNorm(dims[0], dim=1))
    head = Classifier(dims[-1], num_classes, after=LayerNorm(dims[-1]), drop=drop_rate)
    net = Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, conv=trunc02, linear=trunc02)
    return net


def gnconv(theirs: str, ours: str, inner: str = "recursion.") -> str:
    """Rules for a published gated convolution."""
    return f"""
    {theirs}.proj_in               -> {ours}.{inner}proj_in
    {theirs}.dwconv.dw             -> {ours}.{inner}spread.dwconv
    {theirs}.dwconv.complex_weight -> {ours}.{inner}spread.filter
    {theirs}.dwconv.pre_norm       -> {ours}.{inner}spread.pre
    {theirs}.dwconv.post_norm      -> {ours}.{inner}spread.post
    {theirs}.dwconv                -> {ours}.{inner}spread.dwconv
    {theirs}.pws.{{i}}             -> {ours}.{inner}steps.{{i}}
    {theirs}.proj_out              -> {ours}.proj_out"""


BLOCK = "backbone.stages.{s}.blocks.{b}"
AUTHORS = (
    gnconv("stages.{s}.{b}.gnconv", f"{BLOCK}.mixer")
    + f"""
    downsample_layers.0          -> backbone.stem
    downsample_layers.{{s}}      -> backbone.stages.{{s}}.down
    stages.{{s}}.{{b}}.norm{{i}} -> {BLOCK}.norm{{i}}
    stages.{{s}}.{{b}}.pwconv{{i}} -> {BLOCK}.mlp.fc{{i}}
    stages.{{s}}.{{b}}.gamma{{i}} -> {BLOCK}.scale{{i}}.gamma
    norm                         -> head.after
    head                         -> head.fc
"""
)
