"""Couplings of two halves, each of which can be undone. Dinh et al., 2014, arXiv:1410.8516; Jacobsen et al., 2018"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import OpsinError
from .reversible import Again, Reversible, Run, State, Step, plainly
from .stage import Features


class Squeeze(nn.Module):
    """Blocks of `side` x `side` pixels become channels: (B, C, H, W) to (B, side^2 C, H / side, W / side)

    Unlike in `nn.PixelUnshuffle`, the channels of one pixel stay neighbours.
    """

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        s, (b, c, h, w) = self.side, x.shape
        if h % s or w % s:
            raise OpsinError(f"{h} x {w} pixels have no blocks of {s} x {s}: give sides that are multiples of {s}")
        return x.reshape(b, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4).reshape(b, s * s * c, h // s, w // s)

    def inverse(self, y: Tensor) -> Tensor:
        s, (b, c, h, w) = self.side, y.shape
        return y.reshape(b, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(b, c // s**2, h * s, w * s)


class Coupling(Step):
    """(a, b) -> (squeeze(b), squeeze(a) + branch(b)), whatever the branch

    `branch` makes of b what is added to the squeezed a. The squeeze moves numbers and changes none, so that its inverse
    takes gradients back too.
    """

    def __init__(self, branch: nn.Module, side: int = 1):
        super().__init__()
        self.branch, self.squeeze = branch, Squeeze(side)

    def forward(self, state: State, run: Run = plainly) -> State:
        a, b = state
        return [self.squeeze(b), self.squeeze(a) + run(self.branch, b)]

    def inverse(self, state: State) -> State:
        b = self.squeeze.inverse(state[0])
        return [self.squeeze.inverse(state[1] - self.branch(b)), b]

    def back(self, again: Again, state: State, grads: State) -> tuple[State, State]:
        b = self.squeeze.inverse(state[0])
        y, (seen,) = again("branch", [b], grads[1])
        old = [self.squeeze.inverse(state[1] - y), b]
        return old, [self.squeeze.inverse(grads[1]), self.squeeze.inverse(grads[0]) + seen]


class Widened(Coupling):
    """A coupling of halves that get channels of zeros first: `cin` in both together to `dim` in each

    Its results lie in a part of the space: what can be undone is every result, not every state.
    """

    def __init__(self, branch: nn.Module, cin: int, dim: int):
        super().__init__(branch)
        self.cin, self.dim = cin, dim

    def forward(self, state: State, run: Run = plainly) -> State:
        return super().forward(self.widened(state), run)

    def inverse(self, state: State) -> State:
        return self.thinned(super().inverse(state))

    def back(self, again: Again, state: State, grads: State) -> tuple[State, State]:
        old, d = super().back(again, state, grads)
        return self.thinned(old), self.thinned(d)

    def widened(self, state: State) -> State:
        return halves(F.pad(torch.cat([*state], 1), (0, 0, 0, 0, 0, 2 * self.dim - self.cin)))

    def thinned(self, state: State) -> State:
        return halves(torch.cat([*state], 1)[:, : self.cin])


def halves(x: Tensor) -> list[Tensor]:
    """The first half of the channels, and the rest."""
    return [x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]]


class Couplings(Reversible):
    """Couplings on the squeezed image; the maps are both halves behind each of the stages, which `ends` counts

    `inverse` takes each of them back to the image. The first blocks of an image filled up with zeros are run plainly in
    training: zeros that come back with rounding have no sign to trust, and norms of channels without variance magnify.
    """

    stem: Squeeze
    blocks: Any

    def __init__(
        self,
        stem: Squeeze,
        blocks: Sequence[Coupling],
        ends: Sequence[int],
        widths: Sequence[int],
        strides: Sequence[int],
    ):
        super().__init__()
        self.stem, self.blocks, self.ends = stem, nn.ModuleList(blocks), list(ends)
        self.widths, self.strides = list(widths), list(strides)
        self.plain = 2 if isinstance(blocks[0], Widened) else 0

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        wanted = sorted({self.ends[tap] for tap in taps})
        state: State = halves(self.stem(x))
        made = {}
        for start, end in zip([0, *wanted], wanted):
            middle = min(max(self.plain, start), end)
            for block in self.blocks[start:middle]:
                state = block(state)
            state = self.through(self.blocks[middle:end], state)
            made[end] = torch.cat([*state], 1)
        return Features([made[self.ends[tap]] for tap in taps], [self.strides[tap] for tap in taps])

    def inverse(self, m: Tensor, tap: int = -1) -> Tensor:
        """The image (B, C, H, W) of a tap's map; exact but for rounding, and in evaluation only."""
        if self.training:
            raise OpsinError("norms of a batch cannot be undone without it: call .eval() before .inverse()")
        state: State = halves(m)
        for block in reversed(self.blocks[: self.ends[tap]]):
            state = block.inverse(state)
        return self.stem.inverse(torch.cat([*state], 1))
