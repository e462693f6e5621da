"""Recursive gated convolution: products of products of places, at the cost of one. Rao et al., 2022, arXiv:2207.14284

Channels double from factor to factor, so that an order more costs little: x of `order` n holds products of up to n + 1
places' values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.norm import LayerNorm
from ..width import Concat, Groups, each

Spread = Callable[[Sequence[int]], Any]


class Near(nn.Module):
    """dwconv(x): every factor sees the pixels around. `dims` are the factors' channels, `cin` what it reads"""

    def __init__(self, sizes: Sequence[int], kernel: int = 7):
        super().__init__()
        self.dims = each(*sizes, name="factor")
        self.cin = Concat(*self.dims)
        self.dwconv = nn.Conv2d(self.cin, self.cin, kernel, padding=kernel // 2, groups=self.cin)

    def forward(self, x: Tensor) -> Tensor:
        return self.dwconv(x)


class GlobalNear(nn.Module):
    """post([dwconv(a), filter(b)]) of [a, b] = pre(x): half of the channels see all places, the halves taken in turns

    The filter is a product in the frequency domain (Rao et al., 2021, arXiv:2107.00645): `grid` numbers a channel, rows
    and half-spectrum columns, resampled for maps of another size. Every factor has an even number of channels.
    """

    axes = {"filter": ("share",)}

    def __init__(self, sizes: Sequence[int], grid: tuple[int, int] = (14, 8)):
        super().__init__()
        if any(size % 2 for size in sizes):
            raise ValueError(f"factors of {list(map(int, sizes))} channels have no halves: take fewer orders")
        halves = each(*[size // 2 for size in sizes], name="factor")
        self.dims = [Groups(half, 2) for half in halves]
        self.share = Concat(*halves)
        self.cin, cout = Concat(self.share, self.share), Concat(*self.dims)
        self.pre, self.post = LayerNorm(self.cin, dim=1), LayerNorm(cout, dim=1)
        self.dwconv = nn.Conv2d(self.share, self.share, 3, padding=1, groups=self.share, bias=False)
        self.filter = nn.Parameter(torch.empty(self.share, *grid, 2))
        nn.init.trunc_normal_(self.filter, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.pre(x).chunk(2, 1)
        return self.post(torch.stack([self.dwconv(a), self.filtered(b)], 2).flatten(1, 2))

    def filtered(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)  # what Fourier transforms take
        spectrum = torch.fft.rfft2(x.to(wide), norm="ortho")
        real, imaginary = self.resampled(spectrum.shape[-2:]).to(wide)
        y = torch.fft.irfft2(spectrum * torch.complex(real, imaginary), s=x.shape[-2:], norm="ortho")
        return y.to(x.dtype)

    def resampled(self, size: Sequence[int]) -> Tensor:
        """The filter (2, C/2, rows, columns) for a spectrum of that size."""
        table = self.filter.permute(3, 0, 1, 2)
        if tuple(size) == tuple(table.shape[2:]):
            return table
        return F.interpolate(table, tuple(size), mode="bilinear", align_corners=True)


class Recursion(nn.Module):
    """x_n of x_i = step_i(x_{i-1}) * q_i, x_1 = p * q_1, [p, r] = proj_in(x), q = spread(r) * scale; maps (B, C, H, W)

    `dims` are the factors' channels, dim / 2^(n-1) to dim; the last is what comes out.
    """

    def __init__(self, cin: int, dim: int, order: int, spread: Spread = Near, scale: float = 1.0):
        super().__init__()
        if order < 1 or dim % 2 ** (order - 1):
            raise ValueError(
                f"order {order} halves {int(dim)} channels {order - 1} times: give a lower one, at least 1"
            )
        self.spread, self.scale = spread([dim // 2**i for i in reversed(range(order))]), scale
        self.dims = self.spread.dims
        self.proj_in = nn.Conv2d(cin, Concat(self.dims[0], self.spread.cin), 1)
        self.steps = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(self.dims))

    def forward(self, x: Tensor) -> Tensor:
        p, q = self.proj_in(x).split([int(self.dims[0]), int(self.spread.cin)], 1)
        first, *others = (self.spread(q) * self.scale).split([int(dim) for dim in self.dims], 1)
        y = p * first
        for step, factor in zip(self.steps, others):
            y = step(y) * factor
        return y


class GnConv(nn.Module):
    """proj_out(recursion(x)) over maps (B, C, H, W), of `order` 1 and more; `spread` lets factors see other places"""

    def __init__(self, dim: int, order: int = 3, spread: Spread = Near, scale: float = 1 / 3):
        super().__init__()
        self.recursion = Recursion(dim, dim, order, spread, scale)
        self.proj_out = nn.Conv2d(self.recursion.dims[-1], dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj_out(self.recursion(x))
