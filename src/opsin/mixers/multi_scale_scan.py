"""Scans at two scales: one route over the whole map, three over a map of half its sides. arXiv:2405.14174

Shi, Dong & Xu, 2024.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.scan_order import all_but_rows, gathered, scattered
from ..width import Concat, Width
from .cross_scan import Spaces, biased, loose


class Excite(nn.Module):
    """x * sigmoid(expand(relu(reduce(mean(x))))), over maps (B, H, W, C), without biases"""

    def __init__(self, dim: int, ratio: int = 8):
        super().__init__()
        hidden = Width(dim // ratio, "squeezed")
        self.reduce, self.expand = nn.Linear(dim, hidden, bias=False), nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(F.relu(self.reduce(x.mean((1, 2), keepdim=True)))).sigmoid()


class MultiScaleScan(nn.Module):
    """out(excite(norm(scan(silu(conv(x))) + up(scans(silu(coarse(x))))))), x = proj(x), over maps (B, H, W, C)

    `coarse` strides: its map is scanned from the end, by columns, and by columns from the end, as one sequence whose
    state runs on. The first space is that of the whole map.
    """

    whole, halved, mode = 0, 1, "nearest"

    def __init__(self, dim: int, states: int = 1, expand: float = 1.0):
        super().__init__()
        inner = Width(int(dim * expand), "inner")
        self.proj, self.out = nn.Linear(dim, self.enters(inner), bias=False), nn.Linear(inner, dim, bias=False)
        self.conv, self.coarse = biased(inner), nn.Conv2d(inner, inner, 7, 2, 3, groups=inner)
        self.spaces = Spaces(inner, math.ceil(dim / 16), states, 2)
        self.norm, self.excite = loose(inner), Excite(inner)

    def enters(self, inner: int) -> int:
        return inner

    def row_by_row(self, x: Tensor) -> Tensor:
        """The whole map (B, H, W, C) along its rows."""
        routes = slice(self.whole, self.whole + 1)
        return self.spaces(x.flatten(1, 2)[:, None], routes)[:, 0].unflatten(1, x.shape[1:3])

    def three_ways(self, x: Tensor) -> Tensor:
        """The half map along the other three routes, (B, 3, L, C), one behind the other."""
        order = all_but_rows(*x.shape[1:3])
        line = scattered(x.flatten(1, 2), order).flatten(1, 2)[:, None]
        return self.spaces(line, slice(self.halved, self.halved + 1))[:, 0].unflatten(1, (3, -1))

    def placed(self, routes: Tensor, half: Tensor, whole: Tensor) -> Tensor:
        """The three routes back in place, summed, on the places of the whole map."""
        y = gathered(routes, all_but_rows(*half.shape[1:3])).mT.unflatten(2, half.shape[1:3])
        smooth = False if self.mode == "bilinear" else None
        return F.interpolate(y, size=whole.shape[1:3], mode=self.mode, align_corners=smooth).movedim(1, -1)

    def join(self, whole: Tensor, half: Tensor) -> Tensor:
        return self.norm(self.row_by_row(whole) + self.placed(self.three_ways(half), half, whole))

    def mix(self, x: Tensor) -> Tensor:
        x = x.movedim(-1, 1)
        return self.excite(self.join(*(F.silu(conv(x)).movedim(1, -1) for conv in (self.conv, self.coarse))))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(self.proj(x)))


class GatedMultiScaleScan(MultiScaleScan):
    """out(mix(x) * silu(z)) with [x, z] = proj(x)"""

    def enters(self, inner: int) -> int:
        return Concat(inner, inner)

    def forward(self, x: Tensor) -> Tensor:
        x, z = self.proj(x).chunk(2, -1)
        return self.out(self.mix(x) * F.silu(z))


class FirstMultiScaleScan(GatedMultiScaleScan):
    """The paper's first form: scans are normed one by one, the half map is smoothed, its space comes first"""

    whole, halved, mode = 1, 0, "bilinear"

    def join(self, whole: Tensor, half: Tensor) -> Tensor:
        return self.norm(self.row_by_row(whole)) + self.placed(self.norm(self.three_ways(half)), half, whole)
