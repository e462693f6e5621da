"""Attention by cosines, with a bias that a small network makes of distances. Liu et al., 2021, arXiv:2111.09883"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.position import offsets, taken
from ..layers.qkv import QKV
from ..width import Groups, Width
from .attention import attend


class CosineAttention(nn.Module):
    """proj(softmax(tau cos(q, k) + bias) v) over tokens (B, N, C); tau = exp(log_tau), at most 100, a number a head"""

    axes = {"log_tau": ("heads",)}

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads if isinstance(heads, Width) else Width(heads, "heads")
        inner = Groups(self.heads, dim // heads)
        self.qkv, self.proj = QKV(dim, inner), nn.Linear(inner, dim)
        self.log_tau = nn.Parameter(torch.full((self.heads,), math.log(10.0)))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        tau = self.log_tau.clamp(max=math.log(100.0)).exp()[:, None, None]
        y = attend(F.normalize(q, dim=-1) * tau, F.normalize(k, dim=-1), v, bias, scale=1.0)
        return self.proj(y.transpose(1, 2).flatten(2))


class DistanceBias(nn.Module):
    """16 sigmoid(fc2(relu(fc1(log-spaced offset)))) as logits' bias (heads, N, N) of a window

    Offsets are shares of the window `trained` that the weights come from, so that other windows extrapolate little.
    """

    offsets: Tensor
    index: Tensor

    def __init__(self, heads: int, window: int, trained: int | None = None):
        super().__init__()
        hidden = Width(512, "hidden")
        self.fc1, self.fc2 = nn.Linear(2, hidden), nn.Linear(hidden, heads, bias=False)
        far = torch.arange(1 - window, window) / ((trained or window) - 1) * 8
        far = far.sign() * torch.log2(far.abs() + 1) / math.log2(8)
        self.register_buffer("offsets", torch.cartesian_prod(far, far), persistent=False)
        self.register_buffer("index", offsets(window), persistent=False)

    def forward(self) -> Tensor:
        table = 16 * self.fc2(self.fc1(self.offsets).relu()).sigmoid()
        return taken(table.mT, self.index)
