"""Attention between channels instead of places, at linear cost. El-Nouby et al., 2021, arXiv:2106.09681"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Concat, Groups, Width


class CrossCovariance(nn.Module):
    """proj(softmax(q^ k^T temperature) v) over tokens (B, N, C), q and k of unit length over N, channels as rows"""

    axes = {"temperature": ("heads",)}
    no_decay = ("temperature",)

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads, self.head_dim = Width(heads, "heads"), Width(dim // heads, "head_dim")
        inner = Groups(self.heads, self.head_dim)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv, self.proj = nn.Linear(dim, Concat(inner, inner, inner)), nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 4, 1)  # (B, heads, d, N)
        attn = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature).softmax(-1)
        return self.proj((attn @ v).permute(0, 3, 1, 2).flatten(2))
