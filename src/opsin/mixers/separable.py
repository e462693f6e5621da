"""The inverted separable convolution of MobileNetV2 as a mixer. Yu et al., 2022, arXiv:2210.13452"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..layers.act import StarReLU
from ..width import Width


class SeparableConv(nn.Module):
    """proj_out(dwconv(act(proj_in(x)))), `ratio` times as wide inside, over maps (B, H, W, C)"""

    def __init__(self, dim: int, kernel: int = 7, ratio: float = 2.0, act: Callable[[], nn.Module] = StarReLU):
        super().__init__()
        hidden = Width(int(dim * ratio), "mixed")
        self.proj_in, self.act = nn.Linear(dim, hidden, bias=False), act()
        self.dwconv = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False)
        self.proj_out = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.proj_in(x)).movedim(-1, 1)
        return self.proj_out(self.dwconv(y).movedim(1, -1))
