"""Non-local blocks: every place of a map sees every other, in space or space-time. Wang et al., 2017, arXiv:1711.07971

Maps are (B, C, ...) with any number of axes of place; N is how many places there are, M how many are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Concat, Width


class Gaussian(nn.Module):
    """softmax(x_i . x_j) over the places j: (B, C, N), (B, C, M) -> (B, N, M)"""

    def __init__(self, dim: int, hidden: int):
        super().__init__()

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        return (x.mT @ others).softmax(-1)


class Embedded(nn.Module):
    """softmax(scale * query(x_i) . key(x_j)), which is attention with one head

    The scale is that of attention, hidden^-0.5, unless another is given; the paper has none (1).
    """

    def __init__(self, dim: int, hidden: int, scale: float | None = None):
        super().__init__()
        both = Width(hidden, "compared")
        self.query, self.key = nn.Conv1d(dim, both, 1), nn.Conv1d(dim, both, 1)
        self.scale = hidden**-0.5 if scale is None else scale

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        return (self.scale * self.query(x).mT @ self.key(others)).softmax(-1)


class DotProduct(Embedded):
    """query(x_i) . key(x_j) / M"""

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        return self.query(x).mT @ self.key(others) / others.shape[-1]


class Concatenation(nn.Module):
    """relu(weigh([query(x_i), key(x_j)])) / M"""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        a, b = Width(hidden, "query"), Width(hidden, "key")
        self.query, self.key = nn.Conv1d(dim, a, 1), nn.Conv1d(dim, b, 1)
        self.weigh = nn.Conv1d(Concat(a, b), 1, 1, bias=False)

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        q, k = self.query(x), self.key(others)
        a, b = self.weigh.weight.split((q.shape[1], k.shape[1]), 1)  # linear: weighed apart, then added
        return F.relu(F.conv1d(q, a).mT + F.conv1d(k, b)) / k.shape[-1]


class Affine(nn.Module):
    """weight * x + bias, for networks whose norms are frozen"""

    axes = {"weight": ("dim",), "bias": ("dim",)}

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None] + self.bias[:, None]


class NonLocal(nn.Module):
    """x + norm(proj_out(affinity(x_i, x_j) value(x_j))); the identity when it starts

    Args:
        hidden: channels inside, half of `dim` by default.
        affinity: how alike two places are: `Gaussian`, `Embedded`, `DotProduct` or `Concatenation`.
        pool: makes fewer places to be looked at, such as `nn.MaxPool2d(2)`.
        norm: over (B, C, N); its gain starts at 0.
    """

    def __init__(
        self,
        dim: int,
        hidden: int | None = None,
        affinity: Callable[[int, int], nn.Module] = Embedded,
        pool: nn.Module | None = None,
        norm: Callable[[int], nn.Module] = nn.BatchNorm1d,
    ):
        super().__init__()
        size = hidden or dim // 2
        inside = Width(size, "hidden")
        self.affinity, self.pool = affinity(dim, size), pool or nn.Identity()
        self.value, self.proj_out, self.norm = nn.Conv1d(dim, inside, 1), nn.Conv1d(inside, dim, 1), norm(dim)
        for conv in (m for m in self.modules() if isinstance(m, nn.Conv1d)):
            nn.init.normal_(conv.weight, std=0.01)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        self.start_as_identity()

    def start_as_identity(self) -> None:
        """Zero the last gain of the branch, or where there is none its last convolution."""
        last: Any = self.proj_out if isinstance(self.norm, nn.Identity) else self.norm
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        flat, others = x.flatten(2), self.pool(x).flatten(2)
        y = self.value(others) @ self.affinity(flat, others).mT
        return x + self.norm(self.proj_out(y)).reshape(x.shape)


class InPieces(nn.Module):
    """A block on each run of `frames` of (B, C, T, H, W) alone, which must divide T"""

    def __init__(self, block: nn.Module, frames: int):
        super().__init__()
        self.block, self.frames = block, frames

    def forward(self, x: Tensor) -> Tensor:
        pieces = x.unflatten(2, (-1, self.frames)).transpose(1, 2)
        return self.block(pieces.flatten(0, 1)).unflatten(0, pieces.shape[:2]).transpose(1, 2).flatten(2, 3)
