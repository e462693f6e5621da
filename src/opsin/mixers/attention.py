"""Multi-head self-attention. Vaswani et al., 2017, arXiv:1706.03762"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.norm import LayerNorm
from ..width import Concat, Groups, Width


class Attention(nn.Module):
    """proj(softmax(q k^T / sqrt(d) + bias) v) over tokens (B, N, C); `bias` joins the logits

    Heads share the channels among themselves, unless each has its own `size`.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True, proj_bias: bool = True, size: int | None = None):
        super().__init__()
        self.heads = heads if isinstance(heads, Width) else Width(heads, "heads")
        inner = Groups(self.heads, size or dim // heads)
        self.qkv = nn.Linear(dim, Concat(inner, inner, inner), bias=qkv_bias)
        self.proj = nn.Linear(inner, dim, bias=proj_bias)

    def mixed(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """What all heads gather (B, N, inner), before the last projection."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.proj(self.mixed(x, bias))


class NormedAttention(Attention):
    """proj(norm(softmax(q k^T / sqrt(d)) v)). Sub-LayerNorm, Wang et al., 2022, arXiv:2210.06423"""

    def __init__(self, dim: int, heads: int, eps: float = 1e-5):
        super().__init__(dim, heads)
        self.norm = LayerNorm(self.proj.in_features, eps=eps)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.proj(self.norm(self.mixed(x, bias)))


class MapAttention(nn.Module):
    """Self-attention between all pixels of a (B, H, W, C) map"""

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True, proj_bias: bool = True):
        super().__init__()
        self.attn = Attention(dim, heads, qkv_bias, proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x.flatten(1, 2)).unflatten(1, x.shape[1:3])
