"""Attention by a feed-forward net: large kernels are keys and values. Yun et al., 2024, arXiv:2406.02021"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..layers.act import GELU
from ..layers.reparam import ConvNorm, PairConv

LARGE = 7  # from this side on, a kernel trains with a 3x3 one at its side


def depthwise(dim: int, kernel: int) -> nn.Module:
    """A large kernel with a small one beside it, or a plain convolution with a bias."""
    if kernel >= LARGE:
        return PairConv(dim, dim, kernel, groups=dim)
    return nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)


class FfnifiedAttention(nn.Module):
    """values(act(keys(query(x)))) over maps (B, C, H, W): a pointwise, then two depthwise convolutions"""

    def __init__(
        self,
        dim: int,
        key: int = 7,
        value: int | None = None,
        act: Callable[[], nn.Module] = GELU,
        conv: Callable[[int, int], nn.Module] = depthwise,
    ):
        super().__init__()
        self.query, self.act = ConvNorm(dim, dim, 1), act()
        self.keys, self.values = conv(dim, key), conv(dim, key if value is None else value)

    def forward(self, x: Tensor) -> Tensor:
        return self.values(self.act(self.keys(self.query(x))))
