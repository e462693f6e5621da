"""Attention pooling: a learned query gathers what it needs from all places of a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..channels.mlp import Mlp
from ..layers.norm import LayerNorm
from ..width import Concat, Groups, Width

HEAD = 64  # channels of a head, where the map's divide so


class LatentPool(nn.Module):
    """(B, C, H, W) -> (B, C), y + mlp(norm(y)) with y = proj(softmax(q k^T / sqrt(d)) v), q one learned latent

    Multihead attention pooling: Zhai et al., 2021, arXiv:2106.04560.
    """

    axes = {"latent": (None, None, "dim")}

    def __init__(self, dim: int, heads: int | None = None, mlp: nn.Module | None = None):
        super().__init__()
        heads = heads or next(n for n in range(max(1, dim // HEAD), 0, -1) if dim % n == 0)
        self.dim, self.heads = dim, Width(heads, "heads")
        inner = Groups(self.heads, dim // heads)
        self.latent = nn.Parameter(torch.empty(1, 1, dim))
        self.q, self.kv, self.proj = nn.Linear(dim, inner), nn.Linear(dim, Concat(inner, inner)), nn.Linear(inner, dim)
        self.norm, self.mlp = LayerNorm(dim), mlp or Mlp(dim)
        nn.init.trunc_normal_(self.latent, std=dim**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).mT
        q = self.q(self.latent).unflatten(-1, (self.heads, -1)).transpose(1, 2).expand(len(x), -1, -1, -1)
        k, v = self.kv(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return (y + self.mlp(self.norm(y))).squeeze(1)
