"""Columns that can be run backwards, each a pass over maps of all resolutions. Cai et al., 2022, arXiv:2212.11696

A column updates maps, fine to coarse: s_i <- keep_i(s_i) + level_i(s_{i-1}, old s_j for some j > i). Given the new maps
each old one can be computed again, the coarsest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.scale import Scale
from .reversible import Again, Reversible, Run, State, Step, plainly
from .stage import Features

LEAST = 1e-3


def held(gamma: Tensor) -> Tensor:
    """Gains (C, 1, 1) of at least 1/1000 in size, since the way back divides by them; those held still learn."""
    least = gamma.sign() * gamma.abs().clamp(min=LEAST)
    return (gamma + (least - gamma).detach())[:, None, None]


class Keep(Scale):
    """gamma * x, maps (B, C, H, W), gamma held off zero"""

    def forward(self, x: Tensor) -> Tensor:
        return x * held(self.gamma)


class Column(Step):
    """One pass over (x, *maps): level i sees the new map below it and the old ones that it names in `above`

    Before the first column there is x alone, and its levels name none.
    """

    levels: Any
    keeps: Any

    def __init__(self, levels: Iterable[nn.Module], dims: Sequence[int], keep: float = 0.5):
        super().__init__()
        self.levels, self.keeps = nn.ModuleList(levels), nn.ModuleList(Keep(dim, keep) for dim in dims)

    def forward(self, state: State, run: Run = plainly) -> State:
        below, *old = state
        new = [below]
        for i, (level, keep) in enumerate(zip(self.levels, self.keeps)):
            y = run(level, new[-1], *[old[j] for j in level.above])
            new.append(keep(old[i] if old else torch.zeros_like(y)) + y)
        return new

    def back(self, again: Again, state: State, grads: State) -> tuple[State, State]:
        old, d, d_old = [*state], [*grads], [*grads]
        for i in range(len(self.levels), 0, -1):  # map i is level i - 1's
            above = [j + 1 for j in self.levels[i - 1].above]
            y, (below, *seen) = again(f"levels.{i - 1}", [state[i - 1], *[old[j] for j in above]], d[i])
            gamma = again.weights[f"keeps.{i - 1}.gamma"].detach()
            old[i] = (state[i] - y) / held(gamma)
            again.found[f"keeps.{i - 1}.gamma"] = (d[i] * old[i]).sum((0, 2, 3))
            d_old[i] = d[i] * held(gamma)
            for j, grad in zip(above, seen):
                d_old[j] = d_old[j] + grad
            d[i - 1] = d[i - 1] + below
        return old, [d[0], *d_old[1:]]


class Columns(Reversible):
    """Columns one behind the other on one stem; the maps are those of the last"""

    def __init__(self, stem: nn.Module, columns: Iterable[Column], widths: Sequence[int], strides: Sequence[int]):
        super().__init__()
        self.stem, self.blocks = stem, nn.ModuleList(columns)
        self.widths, self.strides = list(widths), list(strides)

    def states(self, x: Tensor, ends: Sequence[int]) -> list[State]:
        """The maps behind each of the columns that `ends` counts from 1, in rising order."""
        state: State = [self.stem(x)]
        out: list[State] = []
        for start, end in zip([0, *ends], ends):
            state = self.through(self.blocks[start:end], state)
            out.append(state[1:])
        return out

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        [state] = self.states(x, [len(self.blocks)])
        return Features([state[i] for i in taps], [self.strides[i] for i in taps])
