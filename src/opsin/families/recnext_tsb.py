"""RecNeXt T, S and B: recursive attention on a quarter of the channels. Zhao et al., 2024, arXiv:2412.19628

Maps start at stride 8. Every block first adds up two small depthwise convolutions and its input, which merge into one.
In the `share_channel` forms every fifth block of the last stage does not attend: it adds what the four before it saw.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..blocks import Network, Pyramid, Stage
from ..blocks.two_heads import TwoHeadClassifier, normed
from ..layers import DropPath, ramp
from ..layers.act import GELU
from ..layers.conv import Act
from ..layers.init import initialise, trunc02
from ..mixers.recattn import PositiveAttention, RecAttention, paired
from ..registry import about, family
from ..width import Width

Make = Callable[[int], nn.Module]


def part(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: Act | None = None) -> Any:
    """act(norm(conv(x))), the convolution with a bias"""
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups)
    out = nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(cout)))
    if act:
        out.add_module("act", act())
    return out


def mlp(dim: int, ratio: float) -> nn.Module:
    hidden = Width(int(ratio * dim), "hidden")
    return nn.Sequential(part(dim, hidden, 1, act=GELU), part(hidden, dim, 1))


class Near(nn.Module):
    """large(x) + small(x) + x, depthwise convolutions of 3x3 and one pixel; one convolution when merged"""

    def __init__(self, dim: int):
        super().__init__()
        self.large, self.small = part(dim, dim, 3, groups=dim), part(dim, dim, 1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.large(x) + self.small(x) + x

    @torch.no_grad()
    def merged(self) -> nn.Conv2d:
        self.eval()
        out, small = (fuse_conv_bn_eval(p.conv, p.norm) for p in (self.large, self.small))
        out.weight += F.pad(small.weight + 1, (1,) * 4)
        out.bias += small.bias
        return out


class QuarterBlock(nn.Module):
    """y + drop(mlp([mixer(y_0), y_1])), y = near(x) and y_0 a quarter of its channels; that quarter mixed comes, too"""

    def __init__(self, dim: int, mixer: Make, ratio: float, drop: float = 0.0):
        super().__init__()
        self.near, self.mixer = Near(dim), mixer(dim // 4)
        self.mlp, self.drop = mlp(dim, ratio), DropPath(drop)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.near(x)
        first, rest = x.tensor_split([x.shape[1] // 4], 1)
        mixed = self.mixer(first)
        return x + self.drop(self.mlp(torch.cat([mixed, rest], 1))), mixed


class SharingBlock(nn.Module):
    """y + drop(mlp(y + [quarters])), y = near(x): the quarters that the four blocks before it mixed"""

    def __init__(self, dim: int, ratio: float, drop: float = 0.0):
        super().__init__()
        self.near, self.mlp, self.drop = Near(dim), mlp(dim, ratio), DropPath(drop)

    def forward(self, x: Tensor, *quarters: Tensor) -> Tensor:
        x = self.near(x)
        return x + self.drop(self.mlp(x + torch.cat(quarters, 1)))


class QuarterStage(Stage):
    """blocks(down(x)), of which sharing ones are told what the four before them mixed"""

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        quarters: list[Tensor] = []
        for block in self.blocks:
            if isinstance(block, SharingBlock):
                x = self.blocks.run(block, x, *quarters[-4:])
            else:
                x, mixed = self.blocks.run(block, x)
                quarters.append(mixed)
        return x


class Down(nn.Module):
    """y + drop(mlp(y)), y = conv(x) in as many groups as channels in and out have in common"""

    def __init__(self, cin: int, cout: int, ratio: float, drop: float = 0.0):
        super().__init__()
        self.conv, self.mlp = part(cin, cout, 5, 2, math.gcd(cin, cout)), mlp(cout, ratio)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.drop(self.mlp(y))


FIRST = partial(RecAttention, part=part)
PAIRED = partial(RecAttention, attend=paired, part=part)
DENSE = partial(PositiveAttention, attend=paired, part=part, groups=1, ratio=0.5)
SHARE: dict[str, Any] = dict(mixers=(FIRST, PAIRED, DENSE, DENSE), sharing=5)
T: dict[str, Any] = dict(dims=(64, 128, 256, 512), depths=(0, 2, 8, 10))
S: dict[str, Any] = dict(dims=(128, 256, 384, 512), depths=(0, 2, 8, 10))
B: dict[str, Any] = dict(dims=(128, 256, 384, 512), depths=(2, 8, 8, 12))


@family(
    about(
        title="RecConv: Efficient Recursive Convolutions for Multi-Frequency Representations",
        arxiv="2412.19628",
        licence="Apache-2.0",
    ),
    recnext_t=T,
    recnext_s=S,
    recnext_b=B,
    recnext_t_share_channel={**T, **SHARE},
    recnext_s_share_channel={**S, **SHARE},
    recnext_b_share_channel={**B, **SHARE},
)
def recnext_tsb(
    dims: Sequence[int],
    depths: Sequence[int],
    mixers: Sequence[Make] = (FIRST, PAIRED, PAIRED, DENSE),
    ratios: Sequence[float] = (2, 2, 2, 1.5),
    sharing: int = 0,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`dims` are fixed: a quarter attends, and groups are what neighbouring stages' channels have in common."""
    rates = [*ramp(drop_path_rate, sum(depths)), 0.0]
    thin = [in_chans, Width(dims[0] // 4, "stem1"), Width(dims[0] // 2, "stem2"), dims[0]]
    last = GELU if depths[0] == 0 else None
    stem = nn.Sequential(*[part(thin[i], thin[i + 1], 3, 2, act=last if i == 2 else GELU) for i in range(3)])

    def blocks(i: int, rates: Sequence[float]) -> Iterable[nn.Module]:
        for j, rate in enumerate(rates, 1):
            shares = i == 3 and sharing and j % sharing == 0
            yield (
                SharingBlock(dims[i], ratios[i], rate) if shares else QuarterBlock(dims[i], mixers[i], ratios[i], rate)
            )

    stages = []
    for i, depth in enumerate(depths):
        first = sum(depths[:i])
        down = Down(dims[i - 1], dims[i], ratios[i], rates[first]) if i else None
        stages.append(QuarterStage(blocks(i, rates[first : first + depth]), down))
    backbone = Pyramid(stem, stages, [dims[0], *dims], [8, 8, 16, 32, 64])
    head = TwoHeadClassifier(dims[-1], num_classes, normed, drop=drop_rate)
    initialise(head, linear=trunc02)
    return Network(backbone, head)


AUTHORS = """
    stem.stem.0                                      -> backbone.stem.0
    stem.stem.2                                      -> backbone.stem.1
    stem.stem.4                                      -> backbone.stem.2
    stages.{s}.downsample.token_mixer                -> backbone.stages.{s}.down.conv
    stages.{s}.downsample.channel_mixer.0            -> backbone.stages.{s}.down.mlp.0
    stages.{s}.downsample.channel_mixer.2            -> backbone.stages.{s}.down.mlp.1
    stages.{s}.blocks.{b}.rep_mixer.lk               -> backbone.stages.{s}.blocks.{b}.near.large
    stages.{s}.blocks.{b}.rep_mixer.sk               -> backbone.stages.{s}.blocks.{b}.near.small
    stages.{s}.blocks.{b}.token_mixer.attn.down.0    -> backbone.stages.{s}.blocks.{b}.mixer.down
    stages.{s}.blocks.{b}.token_mixer.attn.down.1.qk -> backbone.stages.{s}.blocks.{b}.mixer.attention.qk
    stages.{s}.blocks.{b}.token_mixer.attn.down.1.pe -> backbone.stages.{s}.blocks.{b}.mixer.attention.near
    stages.{s}.blocks.{b}.token_mixer.attn.pe        -> backbone.stages.{s}.blocks.{b}.mixer.near
    stages.{s}.blocks.{b}.token_mixer.attn           -> backbone.stages.{s}.blocks.{b}.mixer
    stages.{s}.blocks.{b}.channel_mixer.0            -> backbone.stages.{s}.blocks.{b}.mlp.0
    stages.{s}.blocks.{b}.channel_mixer.2            -> backbone.stages.{s}.blocks.{b}.mlp.1
    head.head.norm                                   -> head.fc.labels.norm
    head.head.linear                                 -> head.fc.labels.fc
    head.head_dist.norm                              -> head.fc.teacher.norm
    head.head_dist.linear                            -> head.fc.teacher.fc
"""
