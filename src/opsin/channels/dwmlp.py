"""A pair of linear layers that sees neighbours, and with them where it stands. Wang et al., 2022, arXiv:2106.13797"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..layers.act import GELU
from ..width import Width


class DepthwiseMlp(nn.Module):
    """fc2(gelu(dwconv(act(fc1(x))))), over maps (B, H, W, C)"""

    def __init__(self, dim: int, ratio: float = 4.0, act: Callable[[], nn.Module] = nn.Identity):
        super().__init__()
        hidden = Width(int(dim * ratio), "hidden")
        self.fc1, self.act, self.gelu = nn.Linear(dim, hidden), act(), GELU()
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(self.act(self.fc1(x)).movedim(-1, 1)).movedim(1, -1)
        return self.fc2(self.gelu(y))
