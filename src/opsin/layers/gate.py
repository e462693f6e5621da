"""Squeeze and excitation. Hu et al., 2017, arXiv:1709.01507"""

from __future__ import annotations

from torch import Tensor, nn

from ..width import Width
from .conv import Act, relu


class SqueezeExcite(nn.Module):
    """x * sigmoid(expand(act(reduce(mean(x)))))"""

    def __init__(self, dim: int, hidden: int, act: Act = relu, gate: Act = nn.Sigmoid, bias: bool = True):
        super().__init__()
        hidden = Width(hidden, "squeezed")
        self.reduce, self.act = nn.Conv2d(dim, hidden, 1, bias=bias), act()
        self.expand, self.gate = nn.Conv2d(hidden, dim, 1, bias=bias), gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True)))))
