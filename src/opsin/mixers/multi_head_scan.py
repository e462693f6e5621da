"""Scans in subspaces of the channels, each along routes of its own. Ji, 2024, arXiv:2406.05992"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.routes import diagonals, lines, snakes, spirals
from ..layers.scan_order import returned, scattered
from ..width import Concat, Groups, Width
from .cross_scan import Order, Spaces, biased, loose

HEADS = (snakes, diagonals, spirals, lines)


class RouteHead(nn.Module):
    """sum over four routes of y, where they differ by enough: times relu(cv - threshold), over maps (B, H, W, C)

    cv is their deviation as a share of their mean above the least of them.
    """

    def __init__(self, dim: int, states: int, order: Order, threshold: float):
        super().__init__()
        self.order, self.threshold = order, threshold
        self.spaces = Spaces(dim, math.ceil(dim / 16), states)

    def forward(self, x: Tensor) -> Tensor:
        order = self.order(*x.shape[1:3])
        y = returned(self.spaces(scattered(x.flatten(1, 2), order)), order)
        spread = y.std(1) / ((y - y.amin(1, keepdim=True)).mean(1) + 1e-5)
        return (y.sum(1) * F.relu(spread - self.threshold)).unflatten(1, x.shape[1:3])


class MultiHeadScan(nn.Module):
    """[head(part) for the parts of proj(x)], over maps (B, H, W, C); three or four `heads` of C / heads each"""

    def __init__(self, dim: int, states: int = 16, heads: int = 4, threshold: float = 0.5):
        super().__init__()
        self.size = Width(dim // heads, "head_dim")
        self.width = Groups(heads, self.size)
        self.proj = nn.Linear(dim, self.width, bias=False)
        self.heads = nn.ModuleList(RouteHead(self.size, states, order, threshold) for order in HEADS[:heads])

    def forward(self, x: Tensor) -> Tensor:
        parts = self.proj(x).split(int(self.size), -1)
        return torch.cat([head(part) for head, part in zip(self.heads, parts)], -1)


class ProjectedScan(MultiHeadScan):
    """out(norm(heads))"""

    def __init__(self, dim: int, states: int = 16, heads: int = 4, threshold: float = 0.5):
        super().__init__(dim, states, heads, threshold)
        self.norm, self.out = loose(self.width), nn.Linear(self.width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(super().forward(x)))


class SubspaceScan(nn.Module):
    """norm(scan(silu(dwconv(x)))), over maps (B, H, W, C)"""

    def __init__(self, dim: int, scan: Callable[[int], nn.Module] = ProjectedScan):
        super().__init__()
        self.conv, self.scan, self.norm = biased(dim), scan(dim), loose(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.scan(F.silu(self.conv(x.movedim(-1, 1))).movedim(1, -1)))


class GatedSubspaceScan(SubspaceScan):
    """norm(scan(silu(dwconv(x)))) * silu(z), [x, z] = proj(x); no layer follows"""

    def __init__(self, dim: int, scan: Callable[[int], nn.Module] = ProjectedScan):
        super().__init__(dim, scan)
        self.proj = nn.Linear(dim, Concat(dim, dim), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x, z = self.proj(x).chunk(2, -1)
        return super().forward(x) * F.silu(z)
