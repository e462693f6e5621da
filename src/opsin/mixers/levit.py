"""Attention with small keys, wide values and a bias by distance. Graham et al., 2021, arXiv:2104.01136"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.linear_norm import LinearNorm
from ..layers.position import taken
from ..width import Concat, Groups, Width
from .attention import attend

Act = Callable[[], nn.Module]


class DistanceTable(nn.Module):
    """One number a head and distance (|dy|, |dx|) on a grid, as logits' bias (heads, queries, keys)

    Queries stand at every `stride`-th row and column. On another grid than its own the table is resampled, bilinear.
    """

    axes = {"table": ("heads", None)}
    no_decay = ("table",)
    index: Tensor

    def __init__(self, heads: int, grid: tuple[int, int], stride: int = 1):
        super().__init__()
        self.heads, self.grid, self.stride = heads, grid, stride
        self.table = nn.Parameter(torch.zeros(heads, grid[0] * grid[1]))
        self.register_buffer("index", distances(grid, stride), persistent=False)

    def forward(self, grid: tuple[int, int]) -> Tensor:
        if tuple(grid) == self.grid:
            return taken(self.table, self.index)
        table = F.interpolate(self.table.unflatten(1, self.grid)[None], grid, mode="bilinear")[0].flatten(1)
        return taken(table, distances(grid, self.stride).to(table.device))


def distances(grid: tuple[int, int], stride: int = 1) -> Tensor:
    """For every query and key the place of their distance in a table of the grid's size: (queries, keys)."""
    rows, columns = (torch.arange(n) for n in grid)
    y = (rows[::stride, None] - rows).abs()
    x = (columns[::stride, None] - columns).abs()
    return (y[:, None, :, None] * grid[1] + x[None, :, None, :]).flatten(2).flatten(0, 1)


class LevitAttention(nn.Module):
    """proj(act(softmax(q k^T / sqrt(d) + bias by distance) v)) over maps (B, H, W, C), values `ratio` times as wide"""

    def __init__(self, dim: int, heads: int, key: int, ratio: float, grid: tuple[int, int], act: Act = nn.Hardswish):
        super().__init__()
        self.heads, self.scale = Width(heads, "heads"), key**-0.5
        self.key, self.value = Width(key, "key"), Width(int(ratio * key), "value")
        self.qkv = LinearNorm(dim, Groups(self.heads, Concat(self.key, self.key, self.value)))
        self.bias, self.act = DistanceTable(self.heads, grid), act()
        self.proj = LinearNorm(Groups(self.heads, self.value), dim)
        nn.init.zeros_(self.proj.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        grid = x.shape[1], x.shape[2]
        q, k, v = heads(self.qkv(x), self.heads).split([int(self.key), int(self.key), int(self.value)], -1)
        y = attend(q, k, v, self.bias(grid)[None], self.scale)
        return self.proj(self.act(y.transpose(1, 2).flatten(2))).unflatten(1, grid)


class LevitDown(nn.Module):
    """The same from `cin` to `cout` channels, with queries at every second row and column only"""

    def __init__(
        self, cin: int, cout: int, heads: int, key: int, ratio: float, grid: tuple[int, int], act: Act = nn.Hardswish
    ):
        super().__init__()
        self.heads, self.scale = Width(heads, "heads"), key**-0.5
        self.key, self.value = Width(key, "key"), Width(int(ratio * key), "value")
        self.q = LinearNorm(cin, Groups(self.heads, self.key))
        self.kv = LinearNorm(cin, Groups(self.heads, Concat(self.key, self.value)))
        self.bias, self.act = DistanceTable(self.heads, grid, 2), act()
        self.proj = LinearNorm(Groups(self.heads, self.value), cout)

    def forward(self, x: Tensor) -> Tensor:
        few = x[:, ::2, ::2]
        k, v = heads(self.kv(x), self.heads).split([int(self.key), int(self.value)], -1)
        bias = self.bias((x.shape[1], x.shape[2]))
        y = attend(heads(self.q(few), self.heads), k, v, bias[None], self.scale)
        return self.proj(self.act(y.transpose(1, 2).flatten(2))).unflatten(1, few.shape[1:3])


def heads(x: Tensor, count: int) -> Tensor:
    """(B, H, W, heads * d) -> (B, heads, H * W, d)"""
    return x.flatten(1, 2).unflatten(-1, (count, -1)).transpose(1, 2)
