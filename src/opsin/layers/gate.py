"""Gates: every channel weighed by what the whole map says."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ..width import Width
from .conv import Act, relu


class SqueezeExcite(nn.Module):
    """x * sigmoid(expand(act(reduce(mean(x))))). Squeeze and excitation, Hu et al., 2017, arXiv:1709.01507"""

    def __init__(self, dim: int, hidden: int, act: Act = relu, gate: Act = nn.Sigmoid, bias: bool = True):
        super().__init__()
        hidden = Width(hidden, "squeezed")
        self.reduce, self.act = nn.Conv2d(dim, hidden, 1, bias=bias), act()
        self.expand, self.gate = nn.Conv2d(hidden, dim, 1, bias=bias), gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True)))))


class NeighbourGate(nn.Module):
    """x * sigmoid(conv(mean(x))), a convolution along the channels. ECA, Wang et al., 2019, arXiv:1910.03151

    `kernel` neighbouring channels are seen, by default as many as the paper's rule gives for `dim`.
    """

    def __init__(self, dim: int, kernel: int | None = None):
        super().__init__()
        self.dim, kernel = dim, kernel or neighbours(dim)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.mean((2, 3))[:, None]).sigmoid()
        return x * y[:, 0, :, None, None]


def neighbours(channels: int, slope: float = 2.0, offset: float = 1.0) -> int:
    """ECA's kernel for a number of channels: |log2(C) + offset| / slope cut to a whole number, the next odd one."""
    size = int(abs(math.log2(channels) + offset) / slope)
    return max(size if size % 2 else size + 1, 3)
