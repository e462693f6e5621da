"""State spaces that read a sequence from both ends. Zhu et al., 2024, arXiv:2401.09417"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.selective_scan import scan
from ..width import Concat, Width
from .mamba import CausalConv, StateSpace


def together(xs: list[Tensor], spaces: list[StateSpace]) -> list[Tensor]:
    """Each space over its own tokens (B, L, C), in one scan."""
    parts = [space.parts(x) for space, x in zip(spaces, xs)]
    step, b, c = (torch.cat([part[i] for part in parts]) for i in (0, 2, 3))
    a = torch.cat([part[1].mT.expand(x.shape[0], -1, -1) for part, x in zip(parts, xs)])
    y, _ = scan(torch.cat(xs), step, a, b, c)
    return [(y + space.skip * x).to(x.dtype) for y, x, space in zip(y.unflatten(0, (len(xs), -1)), xs, spaces)]


class BidirectionalMamba(nn.Module):
    """out(share (f + b) silu(z)), f and b the state spaces of both directions behind a causal convolution each

    [x, z] = proj(x) is common to both; over tokens (B, L, C).
    """

    def __init__(self, dim: int, states: int = 16, expand: float = 2, kernel: int = 4, share: float = 0.5):
        super().__init__()
        inner, states = Width(int(expand * dim), "inner"), Width(states, "states")
        self.share, self.proj = share, nn.Linear(dim, Concat(inner, inner), bias=False)
        self.convs = nn.ModuleList(CausalConv(inner, kernel) for _ in range(2))
        self.spaces = nn.ModuleList(StateSpace(inner, states, Width(math.ceil(dim / 16), "rank")) for _ in range(2))
        self.out = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x, z = self.proj(x).chunk(2, -1)
        xs = [F.silu(conv(way)) for conv, way in zip(self.convs, (x, x.flip(1)))]
        ahead, back = together(xs, [*self.spaces])
        return self.out(self.share * (ahead + back.flip(1)) * F.silu(z))


class TwoDecays(StateSpace):
    """A space that reads the tokens from both ends, the same but for its decays, and sums the answers"""

    axes = {**StateSpace.axes, "log_decay_back": ("dim", "states")}
    no_decay = ("log_decay", "log_decay_back")

    def __init__(self, dim: int, states: int, rank: int):
        super().__init__(dim, states, rank)
        self.log_decay_back = nn.Parameter(self.log_decay.detach().clone())

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        step, a, b, c = self.parts(x)
        both = torch.cat([t.mT.expand(x.shape[0], -1, -1) for t in (a, -self.log_decay_back.exp())])
        u, step, b, c = (torch.cat([t, t.flip(1)]) for t in (x, step, b, c))
        y, last = scan(u, step, both, b, c)
        ahead, back = y.unflatten(0, (2, -1))
        return (ahead + back.flip(1) + 2 * self.skip * x).to(x.dtype), last
