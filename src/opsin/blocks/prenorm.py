"""The residual pair of the transformers, and one half of it alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm, Scale


class PreNorm(nn.Module):
    """x + drop(scale1(mixer(norm1(x)))), then x + drop(scale2(mlp(norm2(x)))); channels last

    `scale` is the first value of LayerScale's gains; without it there are none. What else the block is given, such as
    the grid that tokens come from, goes to the mixer.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp: nn.Module | None = None,
        drop: float = 0.0,
        eps: float = 1e-6,
        scale: float | None = None,
        norm: Callable[..., nn.Module] = LayerNorm,
    ):
        super().__init__()
        self.norm1, self.mixer = norm(dim, eps=eps), mixer
        self.norm2, self.mlp = norm(dim, eps=eps), mlp or Mlp(dim)
        self.scale1 = nn.Identity() if scale is None else Scale(dim, scale)
        self.scale2 = nn.Identity() if scale is None else Scale(dim, scale)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor, *given: Any) -> Tensor:
        x = x + self.drop(self.scale1(self.mixer(self.norm1(x), *given)))
        return x + self.drop(self.scale2(self.mlp(self.norm2(x))))


class PreMix(nn.Module):
    """x + drop(mixer(norm(x))); what else the block is given goes to the mixer"""

    def __init__(self, norm: nn.Module, mixer: nn.Module, drop: float = 0.0):
        super().__init__()
        self.norm, self.mixer, self.drop = norm, mixer, DropPath(drop)

    def forward(self, x: Tensor, *given: Any) -> Tensor:
        return x + self.drop(self.mixer(self.norm(x), *given))
