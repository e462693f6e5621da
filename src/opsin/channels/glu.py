"""Gated linear units. Shazeer, 2020, arXiv:2002.05202"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Concat, Width


class SwiGlu(nn.Module):
    """fc2(silu(a) * b) of [a, b] = fc1(x), `ratio` times as wide inside; channels last"""

    def __init__(self, dim: int, ratio: float = 8 / 3):
        super().__init__()
        hidden = Width(int(dim * ratio), "hidden")
        self.fc1, self.fc2 = nn.Linear(dim, Concat(hidden, hidden)), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.fc1(x).chunk(2, -1)
        return self.fc2(F.silu(a) * b)


class SplitSwiGlu(nn.Module):
    """fc2(silu(gate(x)) * fc1(x)), `ratio` times as wide inside; channels last"""

    def __init__(self, dim: int, ratio: float = 8 / 3, bias: bool = True):
        super().__init__()
        hidden = Width(int(dim * ratio), "hidden")
        self.gate, self.fc1 = nn.Linear(dim, hidden, bias), nn.Linear(dim, hidden, bias)
        self.fc2 = nn.Linear(hidden, dim, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.silu(self.gate(x)) * self.fc1(x))
