"""SS2D: a map scanned along several routes at once, by state spaces of their own. Liu et al., 2024, arXiv:2401.10166"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.selective_scan import scan
from ..kernels.ssd import ssd
from ..layers import LayerNorm
from ..layers.scan_order import Plan, cross, gathered, scattered
from ..width import Concat, Groups, Width
from .mamba import step_bias

Order = Callable[[int, int], Plan]
Norm = Callable[[int], nn.Module]
loose: Norm = lambda dim: LayerNorm(dim, eps=1e-5)


class Spaces(nn.Module):
    """A selective scan for each of K routes (B, K, L, C), with parameters of its own: y + skip x

    Steps softplus(dt(low) + bias) with [low, B, C] = read(x), A = -exp(log_decay); the steps' rank is `rank`.
    """

    axes = {
        "read": (None, "seen", "dim"),
        "dt": (None, "dim", "rank"),
        "dt_bias": (None, "dim"),
        "log_decay": ("all", "states"),
        "skip": ("all",),
    }
    no_decay = ("read", "dt", "dt_bias", "log_decay")

    def __init__(self, dim: int, rank: int, states: int = 1, routes: int = 4):
        super().__init__()
        self.dim, self.states, self.rank = dim, Width(states, "states"), Width(rank, "rank")
        self.seen, self.all = Concat(self.rank, self.states, self.states), Groups(routes, dim)
        self.read = nn.Parameter(torch.empty(routes, self.seen, dim).uniform_(-1, 1) * dim**-0.5)
        self.dt = nn.Parameter(torch.empty(routes, dim, rank).uniform_(-1, 1) * rank**-0.5)
        self.dt_bias = nn.Parameter(step_bias(routes * dim).view(routes, dim))
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(routes * dim, 1))
        self.skip = nn.Parameter(torch.ones(routes * dim))

    def forward(self, x: Tensor, routes: slice = slice(None)) -> Tensor:
        low, b, c = (x @ self.read[routes].mT).split([int(self.rank), int(self.states), int(self.states)], -1)
        step = F.softplus(low @ self.dt[routes].mT + self.dt_bias[routes, None])
        a = -self.log_decay.exp().unflatten(0, (len(self.read), -1))[routes].mT
        y, _ = scan(*(t.flatten(0, 1) for t in (x, step, a.expand(x.shape[0], -1, -1, -1), b, c)))
        return (y.unflatten(0, x.shape[:2]) + self.skip.view(len(self.read), 1, -1)[routes] * x).to(x.dtype)


class DualSpaces(nn.Module):
    """`Spaces` in Mamba-2's form: `rank` heads a route, each with one step and decay for all its channels"""

    axes = {
        "read": (None, "seen", "dim"),
        "dt_bias": (None, "heads"),
        "log_decay": (None, "heads"),
        "skip": (None, "heads", "head_dim"),
    }
    no_decay = ("read", "dt_bias", "log_decay", "skip")

    def __init__(self, dim: Groups, states: int = 64, routes: int = 4):
        super().__init__()
        self.dim, self.states = dim, Width(states, "states")
        self.heads, self.head_dim = dim.parts
        self.seen = Concat(self.heads, self.states, self.states)
        self.read = nn.Parameter(torch.empty(routes, self.seen, dim).uniform_(-1, 1) * dim**-0.5)
        self.dt_bias = nn.Parameter(torch.empty(routes, self.heads).uniform_(0, 0.1))
        self.log_decay = nn.Parameter(torch.zeros(routes, self.heads))
        self.skip = nn.Parameter(torch.ones(routes, self.heads, self.head_dim))

    def forward(self, x: Tensor) -> Tensor:
        seen = (x @ self.read.mT).transpose(1, 2)  # (B, L, K, ...)
        dt, b, c = seen.split([int(self.heads), int(self.states), int(self.states)], -1)
        heads = x.transpose(1, 2).unflatten(-1, (int(self.heads), -1)).flatten(2, 3)
        skip, bias = self.skip.flatten(0, 1), self.dt_bias.flatten()
        a = -self.log_decay.exp().flatten()
        y, _ = ssd(heads, dt.flatten(2), a, b, c, skip, dt_bias=bias, dt_softplus=True)
        return y.unflatten(2, (x.shape[1], -1)).flatten(3).transpose(1, 2)


class CrossScan(nn.Module):
    """out(norm(sum over routes of spaces(silu(dwconv(proj(x)))))) over maps (B, H, W, C), `expand` times as wide inside

    `spaces` makes the scans along the routes of `order`, from the width and the steps' rank, C / 16.
    """

    def __init__(
        self,
        dim: int,
        states: int = 1,
        expand: float = 1.0,
        conv: Callable[[int], nn.Module] | None = None,
        act: Callable[[], nn.Module] = nn.SiLU,
        norm: Norm = loose,
        order: Order = cross,
    ):
        super().__init__()
        inner, self.order = self.widths(dim, expand), order
        self.proj, self.out = nn.Linear(dim, self.enters(inner), bias=False), nn.Linear(inner, dim, bias=False)
        self.conv, self.act = (conv or dwconv)(inner), act()
        self.spaces = self.scans(inner, dim, states)
        self.norm = norm(inner)

    def widths(self, dim: int, expand: float) -> int:
        return Width(int(dim * expand), "inner")

    def enters(self, inner: int) -> int:
        return inner

    def scans(self, inner: int, dim: int, states: int) -> nn.Module:
        return Spaces(inner, math.ceil(dim / 16), states, len(self.order(2, 2).there))

    def mix(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x.movedim(-1, 1))).movedim(1, -1)
        return self.norm(self.scan(x))

    def scan(self, x: Tensor) -> Tensor:
        order = self.order(x.shape[1], x.shape[2])
        return gathered(self.spaces(scattered(x.flatten(1, 2), order)), order).unflatten(1, x.shape[1:3])

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(self.proj(x)))


class GatedCrossScan(CrossScan):
    """out(mix(x) * silu(z)) with [x, z] = proj(x)"""

    def enters(self, inner: int) -> int:
        return Concat(inner, inner)

    def forward(self, x: Tensor) -> Tensor:
        x, z = self.proj(x).chunk(2, -1)
        return self.out(self.mix(x) * F.silu(z))


class DualCrossScan(CrossScan):
    """`CrossScan` with Mamba-2's scans, in ceil(C / 16) heads"""

    def widths(self, dim: int, expand: float) -> Groups:
        heads = math.ceil(dim / 16)
        return Groups(Width(heads, "heads"), Width(int(dim * expand) // heads, "head_dim"))

    def scans(self, inner: int, dim: int, states: int) -> nn.Module:
        assert isinstance(inner, Groups)
        return DualSpaces(inner, states)


class CascadeScan(CrossScan):
    """Rows in both directions, then columns, each behind a plain norm; results that ran backwards stay reversed"""

    def scan(self, x: Tensor) -> Tensor:
        x = self.lines(F.layer_norm(x, x.shape[-1:]), slice(0, 2))
        return self.lines(F.layer_norm(x, x.shape[-1:]).transpose(1, 2), slice(2, 4)).transpose(1, 2)

    def lines(self, x: Tensor, routes: slice) -> Tensor:
        line = x.flatten(0, 1)
        return self.spaces(torch.stack([line, line.flip(1)], 1), routes).sum(1).unflatten(0, x.shape[:2])


def dwconv(dim: int) -> nn.Module:
    return nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)


def biased(dim: int) -> nn.Module:
    return nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
