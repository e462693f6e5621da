"""Mamba's mixers: a causal convolution, then a state space whose steps and directions the tokens choose themselves."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.selective_scan import scan, scan_kept
from ..kernels.ssd import ssd
from ..width import Concat, Groups, Width


class CausalConv(nn.Conv1d):
    """A depthwise convolution over tokens (B, L, C) that sees those before, none behind."""

    bias: nn.Parameter

    def __init__(self, dim: int, kernel: int = 4):
        super().__init__(dim, dim, kernel, padding=kernel - 1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mT)[..., : x.shape[1]].mT

    def step(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """One token (B, C), and the last inputs (B, C, kernel) with it."""
        seen = torch.cat([seen[..., 1:], x[..., None]], -1)
        return (seen * self.weight[:, 0]).sum(-1) + self.bias, seen


def step_bias(size: int, low: float = 1e-3, high: float = 0.1, floor: float = 1e-4) -> Tensor:
    """What softplus turns into steps drawn evenly in their logarithm."""
    step = torch.exp(torch.rand(size) * math.log(high / low) + math.log(low)).clamp(min=floor)
    return step + torch.log(-torch.expm1(-step))


class StateSpace(nn.Module):
    """y + skip x, y the selective scan of tokens (B, L, C): steps softplus(dt(low)), [low, B, C] = read(x)

    A = -exp(log_decay) stands for one state and channel. Gu & Dao, 2023, arXiv:2312.00752.
    """

    axes: dict[str, tuple[str | None, ...]] = {"log_decay": ("dim", "states"), "skip": ("dim",)}
    no_decay: tuple[str, ...] = ("log_decay",)

    def __init__(self, dim: int, states: int, rank: int):
        super().__init__()
        self.dim, self.states, self.rank = dim, states, rank
        self.read = nn.Linear(dim, Concat(self.rank, self.states, self.states), bias=False)
        self.dt = nn.Linear(self.rank, dim)
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(dim, 1))
        self.skip = nn.Parameter(torch.ones(dim))
        self.initialise()

    def initialise(self) -> None:
        nn.init.uniform_(self.dt.weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            self.dt.bias.copy_(step_bias(len(self.dt.bias)))

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Steps (B, L, C), A (C, N), B and C (B, L, N)."""
        low, b, c = self.read(x).split([int(self.rank), int(self.states), int(self.states)], -1)
        return F.softplus(self.dt(low)), -self.log_decay.exp(), b, c

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The tokens' answers, and the last states (B, N, C), which a further part of the sequence may start from."""
        step, a, b, c = self.parts(x)
        y, last = scan(x, step, a.mT.expand(x.shape[0], -1, -1), b, c, state)
        return (y + self.skip * x).to(x.dtype), last

    def among(self, x: Tensor, kept: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`forward` answering the tokens `kept` (B, K), in rising order, alone: the others only let states decay.

        Where tokens are pruned, this is the place for it: answers (B, K, C), and the states behind the last token.
        """
        step, a, b, c = self.parts(x)
        y, last = scan_kept(x, step, a.mT.expand(x.shape[0], -1, -1), b, c, kept, state)
        seen = x.gather(1, kept[..., None].expand(-1, -1, x.shape[2]))
        return (y + self.skip * seen).to(x.dtype), last


class Mamba(nn.Module):
    """out(space(silu(conv(x))) * silu(z)), [x, z] = proj(x), over tokens (B, L, C), each seeing those before it

    `start` and `step` are the same for one token at a time.
    """

    def __init__(self, dim: int, states: int = 16, expand: float = 2, kernel: int = 4, rank: int | None = None):
        super().__init__()
        inner = Width(int(expand * dim), "inner")
        self.proj, self.conv = nn.Linear(dim, Concat(inner, inner), bias=False), CausalConv(inner, kernel)
        rank = Width(rank or math.ceil(dim / 16), "rank")
        self.space = StateSpace(inner, Width(states, "states"), rank)
        self.out = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x, z = self.proj(x).chunk(2, -1)
        return self.out(self.space(F.silu(self.conv(x)))[0] * F.silu(z))

    def start(self, batch: int) -> tuple[Tensor, Tensor]:
        """What `step` knows before the first token: inputs of the convolution (B, C, kernel), states (B, N, C)."""
        weight, decay = self.conv.weight, self.space.log_decay
        return weight.new_zeros(batch, len(weight), weight.shape[2]), decay.new_zeros(batch, *decay.mT.shape)

    def step(self, x: Tensor, seen: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The answer to one token (B, C), and what the next one needs."""
        x, z = self.proj(x).chunk(2, -1)
        x, seen = self.conv.step(x, seen)
        y, state = self.space(F.silu(x)[:, None], state)
        return self.out(y[:, 0] * F.silu(z)), seen, state


class GatedRMSNorm(nn.RMSNorm):
    """norm(x silu(z))"""

    def forward(self, x: Tensor, z: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x * F.silu(z))


class LearnedStates(nn.Module):
    """States (H, P, N) in which every sequence starts"""

    axes = {"table": ("heads", "head_dim", "states")}
    no_decay = ("table",)

    def __init__(self, heads: int, head_dim: int, states: int):
        super().__init__()
        self.heads, self.head_dim, self.states = heads, head_dim, states
        self.table = nn.Parameter(torch.zeros(heads, head_dim, states))

    def forward(self) -> Tensor:
        return self.table


class ZeroStates(nn.Module):
    """None to start from"""

    def __init__(self, heads: int, head_dim: int, states: int):
        super().__init__()

    def forward(self) -> None:
        return None


class Mamba2(nn.Module):
    """out(norm(y, z)) of y = ssd(silu(conv([x, B, C]))), [z, x, B, C, dt] = proj(x), over tokens (B, L, C)

    Heads of `head_dim` channels share one decay and step, `groups` of heads share B and C. `start` makes the states in
    which sequences start.
    """

    axes = {"log_decay": ("heads",), "dt_bias": ("heads",), "skip": ("heads",)}

    def __init__(
        self,
        dim: int,
        states: int = 64,
        head_dim: int = 64,
        groups: int = 1,
        expand: float = 2,
        kernel: int = 4,
        bias: bool = False,
        start: Callable[[int, int, int], nn.Module] = ZeroStates,
    ):
        super().__init__()
        self.heads, self.states, self.groups = int(expand * dim) // head_dim, Width(states, "states"), groups
        if groups == 1:
            self.heads = Width(self.heads, "heads")
        self.head_dim = Width(head_dim, "head_dim")
        inner, read = Groups(self.heads, self.head_dim), Groups(groups, self.states)
        seen = Concat(inner, read, read)
        self.parts = inner, seen, self.heads
        self.proj, self.conv = nn.Linear(dim, Concat(inner, seen, self.heads), bias), CausalConv(seen, kernel)
        self.log_decay = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.dt_bias, self.skip = nn.Parameter(step_bias(self.heads)), nn.Parameter(torch.ones(self.heads))
        self.norm, self.out = GatedRMSNorm(inner, 1e-5), nn.Linear(inner, dim, bias)
        self.start = start(self.heads, self.head_dim, self.states)

    def forward(self, x: Tensor) -> Tensor:
        z, seen, dt = self.proj(x).split([int(part) for part in self.parts], -1)
        inner, many = int(self.parts[0]), self.groups * int(self.states)
        x, b, c = F.silu(self.conv(seen)).split([inner, many, many], -1)
        x, b, c = x.unflatten(-1, (int(self.heads), -1)), *(t.unflatten(-1, (self.groups, -1)) for t in (b, c))
        first = self.start()
        first = None if first is None else first.expand(x.shape[0], -1, -1, -1)
        decay, skip, bias = -self.log_decay.exp(), self.skip, self.dt_bias
        y, _ = ssd(x, dt, decay, b, c, skip, dt_bias=bias, dt_softplus=True, initial_states=first)
        return self.out(self.norm(y.flatten(-2), z))
