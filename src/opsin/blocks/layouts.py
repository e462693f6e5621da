"""Operators among neighbours of another layout: tokens (B, N, C), maps (B, H, W, C) and (B, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import OpsinError
from ..registry import operator


class Alone(nn.Module):
    """op(x), whatever else the block hands to its mixer"""

    def __init__(self, op: nn.Module):
        super().__init__()
        self.op = op

    def forward(self, x: Tensor, *given: Any) -> Tensor:
        return self.op(x)


class First(Alone):
    """op, which takes maps (B, C, H, W), on maps (B, H, W, C)"""

    def forward(self, x: Tensor, *given: Any) -> Tensor:
        return self.op(x.movedim(-1, 1)).movedim(1, -1)


class Last(Alone):
    """op, which takes maps (B, H, W, C), on maps (B, C, H, W)"""

    def forward(self, x: Tensor, *given: Any) -> Tensor:
        return self.op(x.movedim(1, -1)).movedim(-1, 1)


class Flat(Alone):
    """op, which takes tokens, on maps (B, H, W, C)"""

    def forward(self, x: Tensor, *given: Any) -> Tensor:
        return self.op(x.flatten(1, 2)).unflatten(1, x.shape[1:3])


class Grid(Alone):
    """op, which takes maps (B, H, W, C), on tokens (B, P + N, C)

    The last N are on a grid: the one that the block is told, else `grid`, else a square. Those in front, on none, get
    the mean over the map.
    """

    def __init__(self, op: nn.Module, leading: int = 0, grid: tuple[int, int] | None = None):
        super().__init__(op)
        self.leading, self.grid = leading, grid

    def forward(self, x: Tensor, *given: Any) -> Tensor:
        rows, columns = given[0] if given and isinstance(given[0], tuple) else self.sides(x.shape[1] - self.leading)
        leading = x.shape[1] - rows * columns
        y = self.op(x[:, leading:].unflatten(1, (rows, columns))).flatten(1, 2)
        return torch.cat([y.mean(1, keepdim=True).expand(-1, leading, -1), y], 1) if leading else y

    def sides(self, n: int) -> tuple[int, int]:
        if self.grid and math.prod(self.grid) == n:
            return self.grid
        side = math.isqrt(n)
        if side * side != n:
            raise OpsinError(f"{n} tokens are no square: build the network with img_size=(height, width) of its images")
        return side, side


WRAPS: dict[tuple[str, str], tuple[type[Alone], ...]] = {  # from a slot's layout to an operator's, outermost first
    ("first", "last"): (Last,),
    ("first", "tokens"): (Last, Flat),
    ("first", "ends"): (Last,),
    ("last", "first"): (First,),
    ("last", "tokens"): (Flat,),
    ("tokens", "last"): (Grid,),
    ("tokens", "first"): (Grid, First),
}


def laid(op: nn.Module, takes: str, slot: str, leading: int = 0, grid: tuple[int, int] | None = None) -> nn.Module:
    """An operator that takes one layout, as a module that stands in a slot of another."""
    for wrap in reversed(WRAPS.get((slot, takes), ())):
        op = Grid(op, leading, grid) if wrap is Grid else wrap(op)
    return op


def named(call: str | Callable[..., nn.Module], slot: str = "last") -> Callable[..., nn.Module]:
    """An operator as text as a constructor of what stands in a slot; a constructor as it is.

    Raises:
        UnknownName: no such operator.
    """
    if callable(call):
        return call
    make: Any = operator(call)
    takes = import_module("opsin.operators").takes(make)
    return lambda dim: laid(make(dim), takes, slot)
