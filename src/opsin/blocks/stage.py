"""Blocks in a row, stages, and the pyramid of maps that a backbone returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass
class Features:
    """What a backbone returns: `maps` (B, C, H, W), one for each tap, and their `strides` in pixels.

    Networks on tokens add their whole last `sequence` (B, P + N, C), whose first `leading` = P tokens are on no grid,
    state spaces whose heads read them the hidden `states` (B, N, C) of each stage.
    """

    maps: list[Tensor]
    strides: list[int]
    sequence: Tensor | None = None
    leading: int = 0
    states: Sequence[Tensor] = ()

    @property
    def tokens(self) -> Tensor | None:
        """The grid's tokens (B, N, C), row by row."""
        return None if self.sequence is None else self.sequence[:, self.leading :]

    @property
    def prefix(self) -> Tensor | None:
        """The tokens before the grid's (B, P, C): class, distillation, registers."""
        return None if self.sequence is None else self.sequence[:, : self.leading]


class Blocks(nn.Sequential):
    """Modules in a row; with `checkpointing`, training recomputes their insides instead of storing them."""

    checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = self.run(block, x)
        return x

    def run(self, block: Callable[..., Any], *given: Any) -> Any:
        again = self.checkpointing and self.training
        return checkpoint(block, *given, use_reentrant=False) if again else block(*given)


class Stage(nn.Module):
    """blocks(down(x)): a change of resolution, then blocks"""

    def __init__(self, blocks: Iterable[nn.Module], down: nn.Module | None = None):
        super().__init__()
        self.down, self.blocks = down or nn.Identity(), Blocks(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x))


class LastStage(Stage):
    """A stage whose parts see maps with channels last (B, H, W, C)"""

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x.movedim(1, -1))).movedim(-1, 1)


class LastBlocks(Stage):
    """A stage whose blocks see maps with channels last (B, H, W, C), and whose `down` does not"""

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x).movedim(1, -1)).movedim(-1, 1)


class Pyramid(nn.Module):
    """Stem, then stages; returns the maps asked for.

    `widths` and `strides` are given for the stem and every stage; a tap is the last map of each resolution. `taps`
    counts from 0, or from the end when negative; stages behind the last tap are not run.
    """

    def __init__(self, stem: nn.Module, stages: Iterable[nn.Module], widths: Sequence[int], strides: Sequence[int]):
        super().__init__()
        self.stem, self.stages = stem, nn.ModuleList(stages)
        last = [i for i, (here, after) in enumerate(pairwise([*strides, 0])) if here != after]
        self.ends = last
        self.widths, self.strides = [widths[i] for i in last], [strides[i] for i in last]

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        wanted = [self.ends[tap] for tap in taps]
        made = {}
        for i, part in enumerate([self.stem, *self.stages][: max(wanted) + 1]):
            x = part(x)
            if i in wanted:
                made[i] = x
        return Features([made[i] for i in wanted], [self.strides[tap] for tap in taps])

    def after(self, stages: int) -> Pyramid:
        """What follows the stem and so many stages, with the same parts: it takes the map that those make."""
        at = [next(tap for tap, end in enumerate(self.ends) if end >= i) for i in range(stages, len(self.stages) + 1)]
        widths, strides = ([values[tap] for tap in at] for values in (self.widths, self.strides))
        return Pyramid(nn.Identity(), self.stages[stages:], widths, strides)
