"""Attention of all places, to which values see their neighbours. Lin et al., 2023, arXiv:2307.08579"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Concat, Groups, Width


class LocalValueAttention(nn.Module):
    """proj(softmax(q k^T / sqrt(d)) v + dwconv(v)) over maps (B, H, W, C)"""

    def __init__(self, dim: int, heads: int = 8, bias: bool = True):
        super().__init__()
        if dim % heads:
            raise ValueError(f"{int(dim)} channels make no {heads} heads of one size: give a divisor")
        self.heads = Width(heads, "heads")
        inner = Groups(self.heads, dim // heads)
        self.q, self.kv = nn.Linear(dim, inner, bias), nn.Linear(dim, Concat(inner, inner), bias)
        self.dwconv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.proj = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens, grid = x.flatten(1, 2), x.shape[1:3]
        q = self.q(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).unflatten(1, grid)
        near = self.dwconv(v.mT.flatten(1, 2).unflatten(2, grid))
        return self.proj(y + near.movedim(1, -1))
