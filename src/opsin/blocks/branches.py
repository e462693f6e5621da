"""Branches side by side, each a row of convolutions: what Inception and its kin are made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import relu
from ..width import Concat, Width

Kernel = int | tuple[int, int]
Norm = Callable[[int], nn.Module]
loose: Norm = partial(nn.BatchNorm2d, eps=1e-3)


def part(
    cin: int, cout: int, kernel: Kernel = 1, stride: int = 1, padding: int | None = None, norm: Norm = loose
) -> nn.Module:
    """act(norm(conv(x))); padded to keep the map's size if nothing else is said"""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    pad = (sides[0] // 2, sides[1] // 2) if padding is None else padding
    conv = nn.Conv2d(cin, cout, sides, stride, pad, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm(cout), act=relu()))


class Row(nn.Sequential):
    """Convolutions one behind the other, each told as (channels, kernel, stride, padding), behind a pooling if given

    `width` is what it makes.
    """

    def __init__(self, cin: int, *steps: tuple[Any, ...], pool: nn.Module | None = None):
        super().__init__()
        if pool:
            self.pool = pool
        for i, (cout, *more) in enumerate(steps):
            cout = Width(cout, "dim")
            self.add_module(str(i), part(cin, cout, *more))
            cin = cout
        self.width = cin


class Branches(nn.Module):
    """[branch(x) for every branch], laid end to end; `width` is what it makes"""

    def __init__(self, *branches: Row | Then | Branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.width: int = Concat(*[branch.width for branch in branches])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Then(nn.Module):
    """last(first(x)); `width` is what it makes"""

    def __init__(self, first: nn.Module, last: Row | Branches):
        super().__init__()
        self.first, self.last, self.width = first, last, last.width

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))
