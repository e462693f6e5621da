"""Multi-head self-attention. Vaswani et al., 2017, arXiv:1706.03762"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

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

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(y.transpose(1, 2).flatten(2))


class MapAttention(nn.Module):
    """Self-attention between all pixels of a (B, H, W, C) map"""

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True, proj_bias: bool = True):
        super().__init__()
        self.attn = Attention(dim, heads, qkv_bias, proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x.flatten(1, 2)).unflatten(1, x.shape[1:3])
