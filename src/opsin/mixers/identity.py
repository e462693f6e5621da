"""No mixing of places at all: what a body does by itself. Yu et al., 2022, arXiv:2210.13452"""

from __future__ import annotations

from torch import Tensor, nn


class Identity(nn.Module):
    """x; `dim` is taken as by other mixers and not needed"""

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
