"""A pair of pointwise layers with a depthwise convolution added between. arXiv:2405.14174"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Width


class ConvFfn(nn.Module):
    """fc2(gelu(y + dwconv(y))), y = fc1(x), over maps (B, H, W, C)"""

    def __init__(self, dim: int, ratio: float = 4.0):
        super().__init__()
        hidden = Width(int(dim * ratio), "hidden")
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc1(x)
        y = y + self.dwconv(y.movedim(-1, 1)).movedim(1, -1)
        return self.fc2(F.gelu(y))
