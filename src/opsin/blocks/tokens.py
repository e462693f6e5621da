"""The backbone of plain vision transformers: patches, positions, prefix tokens, blocks of one width."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.norm import LayerNorm
from .classify import Classifier
from .stage import Blocks, Features


class Prefix(nn.Module):
    """Learned tokens laid before the patches' tokens, by name and number: `{"cls": 1, "reg": 4}`"""

    def __init__(self, dim: int, counts: Mapping[str, int]):
        super().__init__()
        self.dim, self.no_decay = dim, tuple(counts)
        self.axes = {name: (None, None, "dim") for name in counts}
        for name, count in counts.items():
            self.register_parameter(name, nn.Parameter(torch.empty(1, count, dim)))
            nn.init.normal_(getattr(self, name), std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*[p.expand(x.shape[0], -1, -1) for p in self.parameters()], x], 1)


class Tokens(nn.Module):
    """blocks(positions(prefix(patches(x)))); a tap is the map of the tokens behind a block

    `patches` maps images to (B, C, rows, columns). Positions that know a prefix are added behind it, others before.
    """

    def __init__(
        self,
        patches: nn.Module,
        prefix: nn.Module | None,
        positions: nn.Module,
        blocks: Iterable[nn.Module],
        stride: int,
    ):
        super().__init__()
        self.patches, self.prefix, self.positions = patches, prefix or nn.Identity(), positions
        self.blocks = Blocks(*blocks)
        self.widths, self.strides = [positions.dim] * len(self.blocks), [stride] * len(self.blocks)

    def start(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images to the sequence of tokens before the first block, and the rows and columns of its grid."""
        x = self.patches(x)
        grid, x = (x.shape[2], x.shape[3]), x.flatten(2).mT
        x = self.positions(self.prefix(x), grid) if self.positions.prefix else self.prefix(self.positions(x, grid))
        return x, grid

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        x, grid = self.start(x)
        n = grid[0] * grid[1]
        wanted, made = [tap % len(self.blocks) for tap in taps], {}
        for i, block in enumerate(islice(self.blocks, max(wanted) + 1)):
            x = self.run(block, x, grid)
            if i in wanted:
                made[i] = x
        maps = [made[i][:, made[i].shape[1] - n :].mT.unflatten(2, grid) for i in wanted]
        return Features(maps, [self.strides[i] for i in wanted], x, x.shape[1] - n)

    def run(self, block: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.blocks.run(block, x)


class GridTokens(Tokens):
    """Tokens whose blocks are told the grid that they come from: block(x, (rows, columns))"""

    def run(self, block: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.blocks.run(block, x, grid)


class NormedTokens(Tokens):
    """Tokens that a norm prepares for the first block"""

    def __init__(
        self,
        patches: nn.Module,
        prefix: nn.Module | None,
        positions: nn.Module,
        blocks: Iterable[nn.Module],
        stride: int,
        norm: Callable[[int], nn.Module] = LayerNorm,
    ):
        super().__init__(patches, prefix, positions, blocks, stride)
        width: Any = positions.dim
        self.norm = norm(width)

    def start(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x, grid = super().start(x)
        return self.norm(x), grid


class FirstToken(nn.Module):
    """(B, N, C) -> (B, C), the class token"""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


class MeanToken(nn.Module):
    """(B, N, C) -> (B, C), the mean of all tokens"""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class MeanPatch(nn.Module):
    """(B, P + N, C) -> (B, C), the mean of all tokens but the first `leading` = P"""

    def __init__(self, leading: int = 1):
        super().__init__()
        self.leading = leading

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.leading :].mean(1)


class TokenClassifier(Classifier):
    """fc(drop(after(pool(before(sequence)))))"""

    def unpooled(self, features: Features) -> Tensor:
        return self.before(features.sequence)
