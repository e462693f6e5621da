"""PlainMamba's mixer: snakes over a map, told in which direction they move. Yang et al., 2024, arXiv:2403.17695"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.selective_scan import scan
from ..layers.scan_order import gathered, moves, scattered, snake
from ..width import Concat, Width
from .mamba import StateSpace


class DirectedSpace(StateSpace):
    """One space along four snakes, summed: what B makes of a place depends on the move that leads there, too

    Only the input is put into a snake's order; steps, B and C go by the place in the row-wise order, as in the authors'
    code, and the steps' bias counts twice.
    """

    axes = {**StateSpace.axes, "moves": (None, "states")}
    no_decay = ("log_decay", "moves")

    def __init__(self, dim: int, states: int, rank: int):
        super().__init__(dim, states, rank)
        self.moves = nn.Parameter(torch.empty(5, states))
        nn.init.trunc_normal_(self.moves, std=0.02)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:  # type: ignore[override]
        low, b, c = self.read(x).split([int(self.rank), int(self.states), int(self.states)], -1)
        step = F.softplus(self.dt(low) + self.dt.bias)
        order, led = snake(*grid), torch.from_numpy(moves(*grid)).to(x.device)
        u = scattered(x, order)  # (B, 4, L, C)
        b = b[:, None] + self.moves[led]
        a = -self.log_decay.exp().mT
        step, c = (t[:, None].expand(-1, 4, -1, -1).flatten(0, 1) for t in (step, c))
        y, _ = scan(u.flatten(0, 1), step, a.expand(len(led) * x.shape[0], -1, -1), b.flatten(0, 1), c)
        return gathered((y.unflatten(0, u.shape[:2]) + self.skip * u).to(x.dtype), order)


class SnakeMamba(nn.Module):
    """out(space(silu(dwconv(x))) * silu(z)), [x, z] = proj(x), over tokens (B, L, C) of a grid"""

    def __init__(self, dim: int, states: int = 16, expand: float = 2, kernel: int = 7, bias: bool = True):
        super().__init__()
        inner = Width(int(expand * dim), "inner")
        self.proj, self.out = nn.Linear(dim, Concat(inner, inner), bias), nn.Linear(inner, dim, bias)
        self.conv = nn.Conv2d(inner, inner, kernel, padding=kernel // 2, groups=inner)
        self.space = DirectedSpace(inner, Width(states, "states"), Width(math.ceil(dim / 16), "rank"))

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        x, z = self.proj(x).chunk(2, -1)
        x = F.silu(self.conv(x.mT.unflatten(2, grid))).flatten(2).mT
        return self.out(self.space(x, grid) * F.silu(z))
