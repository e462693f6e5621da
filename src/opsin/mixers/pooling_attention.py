"""Attention whose queries, keys and values are pooled on their grid. Fan et al., 2021, arXiv:2104.11227

Grids have two axes in images and three in video; the tokens of the grid stand behind those on no grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Concat, Groups, Width
from .attention import attend

Grid = tuple[int, ...]


def on_grid(x: Tensor, grid: Grid, change: Callable[[Tensor], Tensor]) -> tuple[Tensor, Grid]:
    """Tokens (B, P + N, C) whose last N are changed as a map, and the grid that those now have."""
    leading = x.shape[1] - math.prod(grid)
    y = change(x[:, leading:].mT.unflatten(2, grid))
    return torch.cat([x[:, :leading], y.flatten(2).mT], 1), tuple(y.shape[2:])


class Unpooled(nn.Module):
    """Tokens as they are"""

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        return x, grid


class ConvPool(nn.Module):
    """norm(dwconv(x)) of all heads (B, heads, P + N, d), with one kernel for every head"""

    def __init__(self, size: int, kernel: Sequence[int], stride: Sequence[int]):
        super().__init__()
        conv: Any = nn.Conv2d if len(kernel) == 2 else nn.Conv3d
        padding = tuple(k // 2 for k in kernel)
        self.conv = conv(size, size, tuple(kernel), tuple(stride), padding, groups=size, bias=False)
        self.norm = nn.LayerNorm(size, eps=1e-6)

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        y, grid = on_grid(x.flatten(0, 1), grid, self.conv)
        return self.norm(y.unflatten(0, x.shape[:2])), grid


class MaxPool(nn.Module):
    """The maximum over stride + 1 places along each axis that has a stride; (B, P + N, C)"""

    def __init__(self, stride: Sequence[int]):
        super().__init__()
        kernel = tuple(s + 1 if s > 1 else 1 for s in stride)
        pool = nn.MaxPool2d if len(kernel) == 2 else nn.MaxPool3d
        self.pool = pool(kernel, tuple(stride), tuple(k // 2 for k in kernel))

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        return on_grid(x, grid, self.pool)


class PoolingAttention(nn.Module):
    """proj(softmax(q k^T / sqrt(d)) v), each pooled: (B, P + N, C) to (B, P + N', cout), and the queries' grid

    `pool` makes the poolings of q, k and v from the channels of a head.
    """

    def __init__(self, dim: int, cout: int, heads: int, size: int, pools: Sequence[Callable[[int], nn.Module]]):
        super().__init__()
        self.heads, size = Width(heads, "heads"), Width(size, "head_dim")
        inner = Groups(self.heads, size)
        self.qkv, self.proj = nn.Linear(dim, Concat(inner, inner, inner)), nn.Linear(inner, cout)
        self.pool_q, self.pool_k, self.pool_v = (pool(size) for pool in pools)
        self.scale = int(size) ** -0.5

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        (q, after), (k, seen), (v, _) = self.pool_q(q, grid), self.pool_k(k, grid), self.pool_v(v, grid)
        return self.proj(self.attend(q, k, v, after, seen).transpose(1, 2).flatten(2)), after

    def attend(self, q: Tensor, k: Tensor, v: Tensor, after: Grid, seen: Grid) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, scale=self.scale)


class OffsetBias(nn.Module):
    """q . R[offset] along each axis, added up, as logits' bias (B, heads, N, N'); arXiv:2112.01526

    A table of each axis has a row an offset, resampled linearly for other sizes than `sides`.
    """

    def __init__(self, size: int, sides: Sequence[int]):
        super().__init__()
        self.names = ("t", "h", "w")[-len(sides) :]
        self.size, self.axes = size, {name: (None, "size") for name in self.names}
        self.no_decay = self.names
        for name, side in zip(self.names, sides):
            self.register_parameter(name, nn.Parameter(torch.empty(2 * side - 1, size)))
            nn.init.trunc_normal_(getattr(self, name), std=0.02)

    def forward(self, q: Tensor, after: Grid, seen: Grid) -> Tensor:
        q, logits = q.unflatten(2, after), q.new_zeros(())
        for axis, (name, rows, columns) in enumerate(zip(self.names, after, seen)):
            table = offset_rows(getattr(self, name), rows, columns)
            one = torch.einsum("...id,ijd->...ij", q.movedim(2 + axis, -2), table).movedim(-2, 2 + axis)
            shape = [columns if axis == other else 1 for other in range(len(seen))]
            logits = logits + one.flatten(2, 1 + len(after)).unflatten(-1, shape)
        return logits.flatten(3)


def offset_rows(table: Tensor, rows: int, columns: int) -> Tensor:
    """The table's row for each query and key of an axis (rows, columns, d), in the finer one's steps."""
    count = 2 * max(rows, columns) - 1
    if len(table) != count:
        table = F.interpolate(table.mT[None], count, mode="linear")[0].mT
    i = torch.arange(rows, device=table.device) * max(columns / rows, 1.0)
    j = torch.arange(columns, device=table.device) * max(rows / columns, 1.0)
    return table[(i[:, None] - j + (columns - 1) * max(rows / columns, 1.0)).long()]


class ResidualPoolingAttention(PoolingAttention):
    """proj(softmax(q k^T / sqrt(d) + offsets(q)) v + q); tokens on no grid have no offsets"""

    def __init__(
        self,
        dim: int,
        cout: int,
        heads: int,
        size: int,
        pools: Sequence[Callable[[int], nn.Module]],
        sides: Sequence[int],
    ):
        super().__init__(dim, cout, heads, size, pools)
        norm: Any = self.pool_q.norm
        self.offsets = OffsetBias(norm.normalized_shape[0], sides)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, after: Grid, seen: Grid) -> Tensor:
        leading = q.shape[2] - math.prod(after)
        bias = F.pad(self.offsets(q[:, :, leading:], after, seen), (leading, 0, leading, 0))
        return attend(q, k, v, bias, self.scale) + self.residual(q, leading)

    def residual(self, q: Tensor, leading: int) -> Tensor:
        return q


class GridResidualAttention(ResidualPoolingAttention):
    """The same, but that tokens on no grid are without the last term too"""

    def residual(self, q: Tensor, leading: int) -> Tensor:
        return F.pad(q[:, :, leading:], (0, 0, leading, 0))
