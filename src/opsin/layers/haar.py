"""The two-dimensional Haar transform: 2x2 pixels become their mean and three differences, and back without loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Haar(nn.Module):
    """One level of the orthonormal transform: (B, C, H, W) to low (B, C, H/2, W/2) and high (B, C, 3, H/2, W/2)

    The bands of `high` are the difference down the columns, along the rows, and both. Odd sides get a row or column of
    zeros at their end. The energy stays; nothing is learned.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, w = x.shape[-2:]
        x = F.pad(x, (0, w % 2, 0, h % 2)) if h % 2 or w % 2 else x
        a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
        high = torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], -3)
        return (a + b + c + d) / 2, high / 2

    def inverse(self, low: Tensor, high: Tensor, sides: tuple[int, int] | None = None) -> Tensor:
        """The map again, cut to the `sides` that it had where they were odd."""
        down, along, both = high.unbind(-3)
        top = torch.stack([low + down + along + both, low + down - along - both], -1)
        bottom = torch.stack([low - down + along - both, low - down - along + both], -1)
        x = torch.stack([top, bottom], -3).flatten(-4, -3).flatten(-2) / 2
        return x if sides is None else x[..., : sides[0], : sides[1]]
