"""Queries, keys and values from one product, keys without a bias: the softmax would not see it. arXiv:2106.08254"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Concat


class QKV(nn.Linear):
    """[q + bias, k, v + bias] of tokens (B, N, C), `inner` channels each"""

    axes = {"weight": ("out_features", "in_features"), "q_bias": ("inner",), "v_bias": ("inner",)}

    def __init__(self, dim: int, inner: int):
        super().__init__(dim, Concat(inner, inner, inner), bias=False)
        self.inner = inner
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(inner)), nn.Parameter(torch.zeros(inner))

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        return F.linear(x, self.weight, bias)
