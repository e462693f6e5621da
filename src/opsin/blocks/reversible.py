"""Columns that can be run backwards, so that none of their activations need be kept. Cai et al., 2022, arXiv:2212.11696

A column updates a state of maps, fine to coarse: s_i <- keep_i(s_i) + level_i(s_{i-1}, old s_j for some j > i). Given
the new state each old map can be computed again, the coarsest first; so the backward pass rebuilds what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..layers.scale import Scale
from .stage import Features

LEAST = 1e-3
State = Sequence[Tensor]


def held(gamma: Tensor) -> Tensor:
    """Gains (C, 1, 1) of at least 1/1000 in size, since the way back divides by them; those held still learn."""
    least = gamma.sign() * gamma.abs().clamp(min=LEAST)
    return (gamma + (least - gamma).detach())[:, None, None]


class Keep(Scale):
    """gamma * x, maps (B, C, H, W), gamma held off zero"""

    def forward(self, x: Tensor) -> Tensor:
        return x * held(self.gamma)


class Column(nn.Module):
    """One pass over the state: level i sees the new map below it and the old ones that it names in `above`"""

    levels: Any
    keeps: Any

    def __init__(self, levels: Iterable[nn.Module], dims: Sequence[int], keep: float = 0.5):
        super().__init__()
        self.levels, self.keeps = nn.ModuleList(levels), nn.ModuleList(Keep(dim, keep) for dim in dims)

    def updated(self, i: int, below: Tensor, state: State) -> Tensor:
        level, keep = self.levels[i], self.keeps[i]
        y = level(below, *[state[j] for j in level.above if state])
        return keep(state[i] if state else torch.zeros_like(y)) + y

    def forward(self, x: Tensor, state: State) -> list[Tensor]:
        """The new state; the old one is empty for the first column."""
        new: list[Tensor] = []
        for i in range(len(self.levels)):
            new.append(self.updated(i, new[-1] if new else x, state))
        return new


class Columns(nn.Module):
    """Columns one behind the other on one stem; the maps are those of the last

    Training rebuilds activations in the backward pass, for about a third more time, as long as `reversible` is true:
    memory then does not grow with the number of columns. Only autograd through the backward pass itself needs it false.
    """

    reversible = True

    def __init__(self, stem: nn.Module, columns: Iterable[Column], widths: Sequence[int], strides: Sequence[int]):
        super().__init__()
        self.stem, self.blocks = stem, nn.ModuleList(columns)
        self.widths, self.strides = list(widths), list(strides)

    def states(self, x: Tensor, ends: Sequence[int]) -> list[State]:
        """The state behind each of the columns that `ends` counts from 1, in rising order."""
        x = self.stem(x)
        state: State = ()
        out: list[State] = []
        for start, end in zip([0, *ends], ends):
            state = self.through(self.blocks[start:end], x, state)
            out.append(state)
        return out

    def through(self, columns: nn.ModuleList, x: Tensor, state: State) -> State:
        if self.reversible and self.training and torch.is_grad_enabled():
            made: State = Rewind.apply(columns, len(state), x, *state, *columns.parameters())  # type: ignore[no-untyped-call]
            return made
        for column in columns:
            state = column(x, state)
        return state

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        [state] = self.states(x, [len(self.blocks)])
        return Features([state[i] for i in taps], [self.strides[i] for i in taps])


class Rewind(torch.autograd.Function):
    """(columns, maps of the state, x, *state, *weights) -> the state behind them, of which alone the way back starts"""

    @staticmethod
    def forward(ctx: Any, columns: Any, count: int, x: Tensor, *rest: Tensor) -> State:
        state: State = rest[:count]
        ctx.columns, ctx.count, ctx.cast, ctx.draws = columns, count, casting(x.device), []
        for column in columns:
            new: list[Tensor] = []
            ctx.draws.append([])
            for i in range(len(column.levels)):
                ctx.draws[-1].append(drawing(x.device))
                new.append(column.updated(i, new[-1] if new else x, state))
            state = new
        ctx.save_for_backward(x, *state, *rest[count:])
        return tuple(state)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        state: State = saved[: len(grads)]
        weights = iter(saved[len(grads) :])
        owned = [{name: next(weights) for name, _ in column.named_parameters()} for column in ctx.columns]
        found: list[Tensor] = []
        dx = torch.zeros_like(x)
        d: State = grads
        for i in reversed(range(len(ctx.columns))):
            back = Back(ctx.columns[i], owned[i], first=i == 0 and not ctx.count)
            below, state, d = back(x, state, d, ctx.draws[i], ctx.cast)
            dx, found = dx + below, [*[back.found[name] for name in owned[i]], *found]
        return None, None, dx, *d[: ctx.count], *found


class Back:
    """The way back through a column: its old state, gradients of it and of x, and in `found` those of its weights"""

    def __init__(self, column: Column, weights: dict[str, Tensor], first: bool):
        self.column, self.weights, self.first = column, weights, first
        self.found: dict[str, Tensor] = {}

    def __call__(
        self, x: Tensor, new: State, grads: State, draws: Sequence[Any], cast: Callable[[], Any]
    ) -> tuple[Tensor, State, State]:
        old, d, d_old = [*new], [*grads], [*grads]
        for i in reversed(range(len(new))):
            gamma = self.weights[f"keeps.{i}.gamma"].detach()
            with drawn(draws[i], x.device), cast():
                y, below, *above = self.level(i, new[i - 1] if i else x, old, d[i])
            old[i] = torch.zeros_like(y) if self.first else (new[i] - y) / held(gamma)
            self.found[f"keeps.{i}.gamma"] = (d[i] * old[i]).sum((0, 2, 3))
            d_old[i] = d[i] * held(gamma)
            for j, grad in zip(self.column.levels[i].above, above):
                d_old[j] = d_old[j] + grad
            if i:
                d[i - 1] = d[i - 1] + below
        return below, old, d_old

    @torch.enable_grad()
    def level(self, i: int, below: Tensor, old: State, grad: Tensor) -> list[Tensor]:
        """What a level adds, computed again, and the gradients of what it saw."""
        level, at = self.column.levels[i], f"levels.{i}."
        own = {k.removeprefix(at): w.detach().requires_grad_() for k, w in self.weights.items() if k.startswith(at)}
        seen = [below, *[old[j] for j in level.above if not self.first]]
        seen = [t.detach().requires_grad_() for t in seen]
        y = functional_call(level, own, tuple(seen))
        made = torch.autograd.grad(y, [*seen, *own.values()], grad.to(y.dtype))
        self.found |= {at + name: grad for name, grad in zip(own, made[len(seen) :])}
        return [y.detach(), *made[: len(seen)]]


def casting(device: torch.device) -> Callable[[], Any]:
    """What makes the autocast of now again."""
    kind, on = device.type, torch.is_autocast_enabled(device.type)
    return partial(torch.autocast, kind, torch.get_autocast_dtype(kind), on) if on else nullcontext


def drawing(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Where the random numbers are, on the CPU and the device."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def drawn(at: tuple[Tensor, Tensor | None], device: torch.device) -> Iterator[None]:
    """Random numbers as they came from there, and afterwards as if they had not."""
    with torch.random.fork_rng([device] if at[1] is not None else []):
        torch.set_rng_state(at[0])
        if at[1] is not None:
            torch.cuda.set_rng_state(at[1], device)
        yield
