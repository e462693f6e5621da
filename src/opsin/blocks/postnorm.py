"""The residual pair with norms behind the branches, which keeps deep and wide transformers calm. arXiv:2111.09883"""

from __future__ import annotations

from torch import Tensor, nn

from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm


class PostNorm(nn.Module):
    """x + drop(norm1(mixer(x))), then x + drop(norm2(mlp(x))); channels last

    Norms start at zero, so that a new block is the identity.
    """

    def __init__(self, dim: int, mixer: nn.Module, mlp: nn.Module | None = None, drop: float = 0.0, eps: float = 1e-5):
        super().__init__()
        self.mixer, self.norm1 = mixer, LayerNorm(dim, eps=eps)
        self.mlp, self.norm2 = mlp or Mlp(dim), LayerNorm(dim, eps=eps)
        self.drop = DropPath(drop)
        for norm in (self.norm1, self.norm2):
            nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.norm1(self.mixer(x)))
        return x + self.drop(self.norm2(self.mlp(x)))
