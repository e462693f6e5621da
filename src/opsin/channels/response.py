"""A pair of linear layers whose hidden channels compete over the map. Woo et al., 2023, arXiv:2301.00808"""

from __future__ import annotations

from torch import Tensor, nn

from ..layers.act import GELU
from ..layers.norm import GlobalResponseNorm
from ..width import Width


class ResponseMlp(nn.Module):
    """fc2(response norm(gelu(fc1(x)))), over maps (B, H, W, C); `bias` is the second layer's"""

    def __init__(self, dim: int, bias: bool = True):
        super().__init__()
        hidden = Width(4 * dim, "hidden")
        self.fc1, self.act, self.norm = nn.Linear(dim, hidden), GELU(), GlobalResponseNorm(hidden)
        self.fc2 = nn.Linear(hidden, dim, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.norm(self.act(self.fc1(x))))
