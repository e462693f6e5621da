"""UPerNet: a pyramid whose deepest level has seen the whole; all levels fused. Xiao et al., 2018, arXiv:1807.10221"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Network
from ..layers import Conv
from ..width import Concat, Width
from .horfpn import GnConvModule
from .segment import Segmenter, resized

Fuse = Callable[[int, int], nn.Module]


def gated(cin: int, cout: int) -> nn.Module:
    """HorNet's fusion, a gated convolution in place of the 3x3 (Rao et al., 2022, arXiv:2207.14284)"""
    return nn.Sequential(GnConvModule(cin, cout), nn.BatchNorm2d(cout), nn.ReLU())


class PyramidPooling(nn.Module):
    """smooth([x, conv_s(means of x over s x s places) enlarged]) (PSPNet, arXiv:1612.01105)"""

    def __init__(self, cin: int, dim: int, sides: Sequence[int] = (1, 2, 3, 6)):
        super().__init__()
        self.sides = tuple(sides)
        self.convs = nn.ModuleList(Conv(cin, dim, 1) for _ in sides)
        self.smooth = Conv(Concat(cin, *[dim] * len(self.sides)), dim)

    def forward(self, x: Tensor) -> Tensor:
        means = [conv(F.adaptive_avg_pool2d(x, side)) for conv, side in zip(self.convs, self.sides)]
        return self.smooth(torch.cat([x, *[resized(m, x.shape[2:]) for m in means]], 1))


class UPerHead(nn.Module):
    """fc(drop(fuse([smooth_i(m_i), all as fine as the first]))) of m_i = lateral_i(map_i) + m_{i+1} enlarged

    Maps (B, C_i, H_i, W_i), fine to coarse, to logits (B, classes, H_0, W_0). `fuse(cin, cout)` stands where the paper
    has a 3x3 convolution.
    """

    def __init__(self, widths: Sequence[int], classes: int, dim: int = 512, fuse: Fuse = Conv, drop: float = 0.1):
        super().__init__()
        *finer, deepest = widths
        dim = Width(dim, "uper")
        self.pool = PyramidPooling(deepest, dim)
        self.lateral = nn.ModuleList(Conv(width, dim, 1) for width in finer)
        self.smooth = nn.ModuleList(Conv(dim, dim) for _ in finer)
        self.fuse = fuse(Concat(*[dim] * len(widths)), dim)
        self.drop, self.fc = nn.Dropout(drop), nn.Conv2d(dim, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        levels = [*[lateral(m) for lateral, m in zip(self.lateral, maps)], self.pool(maps[-1])]
        for i in reversed(range(len(levels) - 1)):
            levels[i] = levels[i] + resized(levels[i + 1], levels[i].shape[2:])
        smooth = [*[conv(m) for conv, m in zip(self.smooth, levels)], levels[-1]]
        return self.fc(self.drop(self.fuse(torch.cat([resized(m, maps[0].shape[2:]) for m in smooth], 1))))


def upernet(
    network: Network, classes: int, dim: int = 512, fuse: Fuse = Conv, taps: Sequence[int] = (-4, -3, -2, -1)
) -> Segmenter:
    """On any network with maps at strides 4 to 32; with `fuse=gated` HorNet's form."""
    return Segmenter(network, taps, UPerHead([network.backbone.widths[i] for i in taps], classes, dim, fuse))
