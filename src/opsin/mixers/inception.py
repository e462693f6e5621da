"""A large depthwise kernel split into a small square, two bands and the identity. Yu et al., 2023, arXiv:2303.16900"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..width import Concat, Width


class InceptionConv(nn.Module):
    """[x_0, square(x_1), row(x_2), column(x_3)] over maps (B, C, H, W), each convolution depthwise

    `dim` is laid out by `inception_widths`, or a number of channels, of which `ratio` go through each convolution.
    """

    def __init__(self, dim: int, band: int = 11, square: int = 3, ratio: float = 0.125):
        super().__init__()
        self.sizes = dim.parts if isinstance(dim, Concat) else inception_widths(dim, ratio).parts
        _, a, b, c = self.sizes
        self.square = nn.Conv2d(a, a, square, padding=square // 2, groups=a)
        self.row = nn.Conv2d(b, b, (1, band), padding=(0, band // 2), groups=b)
        self.column = nn.Conv2d(c, c, (band, 1), padding=(band // 2, 0), groups=c)

    def forward(self, x: Tensor) -> Tensor:
        rest, a, b, c = x.split([int(size) for size in self.sizes], 1)
        return torch.cat([rest, self.square(a), self.row(b), self.column(c)], 1)


def inception_widths(dim: int, ratio: float = 0.125) -> Concat:
    """Channels left alone, then those of the square, the row and the column."""
    part = int(dim * ratio)
    names: Sequence[str] = ("rest", "square", "row", "column")
    return Concat(*[Width(size, name) for size, name in zip((dim - 3 * part, part, part, part), names)])
