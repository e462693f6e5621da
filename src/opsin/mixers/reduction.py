"""Attention to a coarser copy of the map. Wang et al., 2021, arXiv:2102.12122; by pooling: 2022, arXiv:2106.13797"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import LayerNorm
from ..layers.act import GELU
from ..width import Concat, Groups, Width


class ReducedAttention(nn.Module):
    """proj(softmax(q k^T / sqrt(d)) v) over maps (B, H, W, C); keys and values from the tokens (B, M, C) of `reduce`"""

    def __init__(self, dim: int, heads: int, reduce: nn.Module):
        super().__init__()
        self.heads = Width(heads, "heads")
        inner = Groups(self.heads, dim // heads)
        self.q, self.kv, self.proj = nn.Linear(dim, inner), nn.Linear(dim, Concat(inner, inner)), nn.Linear(inner, dim)
        self.reduce = reduce

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x.flatten(1, 2)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(self.reduce(x)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2)).unflatten(1, x.shape[1:3])


class Reduce(nn.Module):
    """act(norm(conv(pool(x)))) as tokens, of maps (B, H, W, C)"""

    def __init__(self, dim: int, stride: int, pool: nn.Module, act: Callable[[], nn.Module] = nn.Identity):
        super().__init__()
        self.pool, self.conv = pool, nn.Conv2d(dim, dim, stride, stride)
        self.norm, self.act = LayerNorm(dim, eps=1e-5), act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(self.pool(x.movedim(-1, 1))).flatten(2).mT))


def strided(dim: int, stride: int) -> nn.Module:
    """Squares of `stride` pixels become one token; all pixels are tokens for a stride of 1."""
    return Reduce(dim, stride, nn.Identity()) if stride > 1 else nn.Flatten(1, 2)


def pooled(dim: int, stride: int) -> nn.Module:
    """Seven by seven tokens whatever the map: attention at linear cost."""
    return Reduce(dim, 1, nn.AdaptiveAvgPool2d(7), GELU)
