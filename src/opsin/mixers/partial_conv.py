"""A convolution of some channels, which leaves the others as they are. Chen et al., 2023, arXiv:2303.03667"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..width import Concat, Width


class PartialConv(nn.Module):
    """[conv(x_0), x_1] over maps (B, C, H, W); x_0 is a `share` of the channels, as `partial_widths` lays them out"""

    def __init__(self, dim: int, kernel: int = 3, share: float = 0.25):
        super().__init__()
        self.sizes = dim.parts if isinstance(dim, Concat) else partial_widths(dim, share).parts
        first = self.sizes[0]
        self.conv = nn.Conv2d(first, first, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        first, rest = x.split([int(size) for size in self.sizes], 1)
        return torch.cat([self.conv(first), rest], 1)


def partial_widths(dim: int, share: float = 0.25) -> Concat:
    """Channels that are convolved, then the others."""
    first = int(dim * share)
    return Concat(Width(first, "mixed"), Width(dim - first, "rest"))
