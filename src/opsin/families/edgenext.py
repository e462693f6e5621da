"""EdgeNeXt: ConvNeXt with attention between channels at the end of each stage. Maaz et al., 2022, arXiv:2206.10589

The attention's block first widens what each channel sees: shares of the channels pass depthwise convolutions one after
the other, each on top of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm, Scale, ramp
from ..layers.fourier import FourierPositions
from ..layers.init import initialise, trunc02
from ..mixers.covariance import CrossCovariance
from ..registry import about, family
from ..width import Concat, Width
from .convnext import ConvNeXtBlock, halve


class SplitTranspose(nn.Module):
    """x + drop(scale(mlp(norm(t)))), t = u + drop(scale_attn(attn(norm_attn(u)))), u = positions(cascade(x))

    `dim` is laid out by `shares`: all but the last share pass the cascade of depthwise 3x3 convolutions.
    """

    def __init__(self, dim: Concat, heads: int, positions: nn.Module, drop: float = 0.0):
        super().__init__()
        self.sizes = dim.parts
        self.cascade = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1, groups=w) for w in self.sizes[:-1])
        self.positions = positions
        self.norm_attn, self.attn, self.scale_attn = LayerNorm(dim), CrossCovariance(dim, heads), Scale(dim)
        self.norm, self.mlp, self.scale, self.drop = LayerNorm(dim), Mlp(dim), Scale(dim), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        *shares, last = x.split([int(size) for size in self.sizes], 1)
        made: list[Tensor] = []
        for conv, share in zip(self.cascade, shares):
            made.append(conv(share + made[-1] if made else share))
        t = self.positions(torch.cat([*made, last], 1)).movedim(1, -1)
        grid = t.shape[1:3]
        t = t.flatten(1, 2)
        t = t + self.drop(self.scale_attn(self.attn(self.norm_attn(t))))
        y = self.scale(self.mlp(self.norm(t))).unflatten(1, grid)
        return x + self.drop(y.movedim(-1, 1))


def shares(dim: int, scales: int) -> Concat:
    """`scales` shares of a stage's channels, at least two: equal ones, that are added to each other, and the rest."""
    one, n = Width(-(-dim // scales), "share"), max(1, scales - 1)
    return Concat(*[one] * n, Width(dim - n * one, "last"))


@family(
    about(
        title="EdgeNeXt: Efficiently Amalgamated CNN-Transformer Architecture for Mobile Vision Applications",
        arxiv="2206.10589",
        licence="MIT",
        native=256,
    ),
    edgenext_xx_small=dict(depths=(2, 2, 6, 2), dims=(24, 48, 88, 168), heads=4),
    edgenext_x_small=dict(depths=(3, 3, 9, 3), dims=(32, 64, 100, 192), heads=4),
    edgenext_small=dict(depths=(3, 3, 9, 3), dims=(48, 96, 160, 304), heads=8),
    edgenext_base=dict(depths=(3, 3, 9, 3), dims=(80, 160, 288, 584), heads=8),
)
def edgenext(
    depths: Sequence[int],
    dims: Sequence[int],
    heads: int,
    kernels: Sequence[int] = (3, 5, 7, 9),
    scales: Sequence[int] = (2, 2, 3, 4),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Positions are told to the second stage alone, whose attention is the first."""
    drop = ramp(drop_path_rate, sum(depths))
    later = [shares(dim, s) for dim, s in zip(dims[1:], scales[1:])]
    dims = [Width(dims[0], "dim1"), *later]

    def stage(i: int) -> nn.Module:
        convs = (ConvNeXtBlock(dims[i], kernels[i], next(drop)) for _ in range(depths[i] - (i > 0)))
        places = FourierPositions(dims[i]) if i == 1 else nn.Identity()
        last = (SplitTranspose(later[i - 1], heads, places, next(drop)) for _ in range(i > 0))
        return Stage(chain(convs, last), halve(dims[i - 1], dims[i]) if i else None)

    stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 4, 4), LayerNorm(dims[0], dim=1))
    head = Classifier(dims[-1], num_classes, after=LayerNorm(dims[-1]), drop=drop_rate)
    net = Network(Pyramid(stem, [stage(i) for i in range(4)], [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, conv=trunc02, linear=trunc02)
    return net


TIMM = """
    stem                                          -> backbone.stem
    stages.{s}.downsample                         -> backbone.stages.{s}.down
    stages.{s}.blocks.{b}.conv_dw                 -> backbone.stages.{s}.blocks.{b}.dwconv
    stages.{s}.blocks.{b}.convs                   -> backbone.stages.{s}.blocks.{b}.cascade
    stages.{s}.blocks.{b}.pos_embd.token_projection -> backbone.stages.{s}.blocks.{b}.positions.proj
    stages.{s}.blocks.{b}.norm_xca                -> backbone.stages.{s}.blocks.{b}.norm_attn
    stages.{s}.blocks.{b}.xca                     -> backbone.stages.{s}.blocks.{b}.attn
    stages.{s}.blocks.{b}.gamma_xca               -> backbone.stages.{s}.blocks.{b}.scale_attn.gamma
    stages.{s}.blocks.{b}.gamma                   -> backbone.stages.{s}.blocks.{b}.scale.gamma
    stages.{s}.blocks.{b}                         -> backbone.stages.{s}.blocks.{b}
    head.norm                                     -> head.after
    head.fc                                       -> head.fc
"""
