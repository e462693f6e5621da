"""MobileMamba's mixer: a scan and wavelets for most channels, a convolution for some, the rest as they are.

He et al., 2024, arXiv:2411.15941
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Conv, LayerNorm
from ..layers.scan_order import gathered, scattered, two_ways
from ..width import Concat, Groups, Width
from .cross_scan import Spaces

HAAR = torch.tensor([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]], device="cpu") / 2


def analysed(x: Tensor) -> Tensor:
    """A map (B, C, H, W) of even sides as its four Haar bands (B, C, 4, H / 2, W / 2), the coarse one first."""
    c, bands = x.shape[1], HAAR.to(x)[:, None]
    return F.conv2d(x.flatten(0, 1)[:, None], bands, stride=2).unflatten(0, (-1, c))


def synthesised(bands: Tensor) -> Tensor:
    """The map that has these bands: the inverse of `analysed`."""
    c, filters = bands.shape[1], HAAR.to(bands)[:, None]
    return F.conv_transpose2d(bands.flatten(0, 1), filters, stride=2)[:, 0].unflatten(0, (-1, c))


class Gain(nn.Module):
    """x * weight, one number a channel of maps (B, C, H, W)"""

    axes = {"weight": (None, "dim")}
    no_decay = ("weight",)

    def __init__(self, dim: int, value: float = 1.0):
        super().__init__()
        self.dim, self.weight = dim, nn.Parameter(torch.full((1, dim, 1, 1), value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class TwoWayScan(nn.Module):
    """out(norm(scans(silu(conv(x)))) * silu(z)), [x, z] = proj(x): rows from both ends, over maps (B, C, H, W)"""

    def __init__(self, dim: int, states: int = 1, expand: float = 2.0):
        super().__init__()
        inner = Width(int(dim * expand), "inner")
        self.proj, self.out = Conv(dim, Concat(inner, inner), 1, act=None), Conv(inner, dim, 1, act=None)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.spaces = Spaces(inner, math.ceil(dim / 16), states, 2)
        self.norm = LayerNorm(inner, dim=1, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        x, z = self.proj(x).chunk(2, 1)
        order = two_ways(*x.shape[2:])
        y = gathered(self.spaces(scattered(F.silu(self.conv(x)).flatten(2).mT, order)), order)
        return self.out(self.norm(y.mT.unflatten(2, x.shape[2:])) * F.silu(z))


class WaveletScan(nn.Module):
    """scale scan(x) + wavelets(x), over maps (B, C, H, W)

    wavelets: Haar bands, each convolved and scaled, made a map again; deeper `levels` split the coarse band as it came.
    """

    def __init__(self, dim: int, kernel: int = 5, expand: float = 2.0, levels: int = 1):
        super().__init__()
        bands = Groups(dim, 4)
        self.scan, self.scale = TwoWayScan(dim, expand=expand), Gain(dim)
        pad = kernel // 2
        self.convs = nn.ModuleList(
            nn.Conv2d(bands, bands, kernel, padding=pad, groups=bands, bias=False) for _ in range(levels)
        )
        self.gains = nn.ModuleList(Gain(bands, 0.1) for _ in range(levels))

    def wavelets(self, x: Tensor, level: int = 0) -> Tensor:
        rows, columns = x.shape[2:]
        bands = analysed(F.pad(x, (0, columns % 2, 0, rows % 2)))
        made = self.gains[level](self.convs[level](bands.flatten(1, 2))).unflatten(1, (-1, 4))
        if level + 1 < len(self.convs):
            deeper = self.wavelets(bands[:, :, 0], level + 1)
            made = torch.cat([made[:, :, :1] + deeper[:, :, None], made[:, :, 1:]], 2)
        return synthesised(made)[:, :, :rows, :columns]

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.scan(x)) + self.wavelets(x)


class Near(nn.Sequential):
    """norm(gain(relu(norm(dwconv(x)))))"""

    def __init__(self, dim: int, kernel: int):
        super().__init__(Conv(dim, dim, kernel, groups=dim), Conv(dim, dim, 1, groups=dim, act=None))


class MultiReceptive(nn.Module):
    """proj(relu([wavelet scan(a), near(b), c])), [a, b, c] = x, over maps (B, C, H, W); `parts` are their widths"""

    def __init__(self, parts: Sequence[int], kernel: int, expand: float = 2.0):
        super().__init__()
        self.parts, dim = list(parts), Concat(*parts)
        self.far, self.near = WaveletScan(parts[0], kernel, expand), Near(parts[1], kernel)
        self.proj = Conv(dim, dim, 1, act=None)

    def forward(self, x: Tensor) -> Tensor:
        far, near, *rest = x.split([int(part) for part in self.parts], 1)
        return self.proj(F.relu(torch.cat([self.far(far), self.near(near), *rest], 1)))
