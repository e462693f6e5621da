"""Where a token stands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import UnsupportedArgument


def grid(img_size: int | tuple[int, int], patch: int) -> tuple[int, int]:
    """Rows and columns of patches in an image of `img_size` pixels (a side, or height and width).

    Raises:
        UnsupportedArgument: a size that patches do not fill.
    """
    sides = tuple(img_size) if isinstance(img_size, Sequence) else (img_size, img_size)
    if len(sides) != 2 or not all(isinstance(side, int) and side >= patch and side % patch == 0 for side in sides):
        raise UnsupportedArgument(f"img_size {img_size!r} is not filled by patches of {patch} pixels: take a multiple")
    return sides[0] // patch, sides[1] // patch


class Positions(nn.Module):
    """x + table, over tokens (B, P + N, C) of which the first P = `prefix` are on no grid

    On another grid than the table's own (`grid` = rows, columns) the table is resampled, bicubic and antialiased.
    """

    axes = {"table": (None, None, "dim")}
    no_decay = ("table",)
    antialias = True

    def __init__(self, dim: int, grid: tuple[int, int], prefix: int = 0):
        super().__init__()
        self.dim, self.grid, self.prefix = dim, grid, prefix
        self.table = nn.Parameter(torch.empty(1, prefix + grid[0] * grid[1], dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if tuple(grid) == self.grid:
            return x + self.table
        return x + resampled(self.table, self.prefix, self.grid, grid, self.antialias)


class SharpPositions(Positions):
    """`Positions` resampled without antialiasing"""

    antialias = False


class MapPositions(nn.Module):
    """x + table, over maps (B, C, rows, columns); on another grid than its own the table is resampled, bicubic"""

    axes = {"table": (None, "dim")}
    no_decay = ("table",)

    def __init__(self, dim: int, grid: tuple[int, int]):
        super().__init__()
        self.dim, self.grid = dim, grid
        self.table = nn.Parameter(torch.empty(1, dim, *grid))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-2:]) == self.grid:
            return x + self.table
        return x + F.interpolate(self.table, x.shape[-2:], mode="bicubic", antialias=True)


def resampled(table: Tensor, prefix: int, old: tuple[int, ...], new: tuple[int, ...], antialias: bool = True) -> Tensor:
    """A (1, P + N, C) table of positions on the grid `old`, on the grid `new`; the prefix stays."""
    wide = torch.float64 if table.dtype == torch.float64 else torch.float32
    on_grid = table[:, prefix:].unflatten(1, old).movedim(-1, 1)
    on_grid = F.interpolate(on_grid.to(wide), size=new, mode="bicubic", antialias=antialias).to(table.dtype)
    return torch.cat([table[:, :prefix], on_grid.flatten(2).mT], 1)


class RelativeBias(nn.Module):
    """One number a head and offset (dy, dx) inside a window, as logits' bias (heads, N, N). arXiv:2103.14030"""

    axes = {"table": (None, "heads")}
    no_decay = ("table",)
    index: Tensor

    def __init__(self, heads: int, window: int):
        super().__init__()
        self.heads = heads
        self.table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.register_buffer("index", offsets(window), persistent=False)

    def forward(self) -> Tensor:
        return taken(self.table.mT, self.index)


def taken(table: Tensor, index: Tensor) -> Tensor:
    """table[:, index], (heads, ...) of a table (heads, places); indexing with brackets takes several times as long."""
    return table.index_select(1, index.flatten()).unflatten(1, index.shape)


def offsets(rows: int, columns: int | None = None) -> Tensor:
    """For every pair of pixels of a window (a square for no `columns`), the row of the bias table: (N, N)."""
    columns = columns or rows
    at = torch.arange(rows * columns)
    y, x = at // columns, at % columns
    dy, dx = y[:, None] - y + rows - 1, x[:, None] - x + columns - 1
    return dy * (2 * columns - 1) + dx


class NoPositions(nn.Module):
    """Tokens as they are, for networks that know places by other means"""

    def __init__(self, dim: int):
        super().__init__()
        self.dim, self.prefix = dim, 0

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return x


class Rotary(nn.Module):
    """Tokens (B, P + N, C) turned by where they stand: pairs of channels, the first half by rows, then by columns

    Su et al., 2021, arXiv:2104.09864. The grid is square, P is 0 or 1 (not turned); angles are those of a grid of
    `trained` places a side.
    """

    def __init__(self, trained: int):
        super().__init__()
        self.trained = trained

    def forward(self, x: Tensor) -> Tensor:
        side = math.isqrt(x.shape[1])
        first = x.shape[1] - side * side
        speeds = 10000.0 ** (-torch.arange(0, x.shape[2] // 2, 2, dtype=x.dtype, device=x.device) / (x.shape[2] // 2))
        turns = torch.arange(side, dtype=x.dtype, device=x.device)[:, None] / side * self.trained * speeds
        turns = torch.cat([turns[:, None].expand(-1, side, -1), turns.expand(side, -1, -1)], -1).flatten(0, 1)
        even, odd = x[:, first:].unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = turns.cos(), turns.sin()
        turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)
        return torch.cat([x[:, :first], turned], 1)
