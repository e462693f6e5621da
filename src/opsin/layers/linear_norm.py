"""A linear layer and batch normalisation as one part, over channels that are last."""

from __future__ import annotations

from torch import Tensor, nn


class LinearNorm(nn.Module):
    """norm(linear(x)) over (..., C), without a bias; batch statistics are taken over all other dimensions"""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.linear, self.norm = nn.Linear(cin, cout, bias=False), nn.BatchNorm1d(cout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return self.norm(y.flatten(0, -2)).view_as(y)
