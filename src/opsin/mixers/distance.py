"""Attention between all pixels, with a learned bias by distance. After Graham et al., 2021, arXiv:2104.01136"""

from __future__ import annotations

from torch import Tensor, nn

from ..width import Width
from .attention import Attention
from .levit import DistanceTable


class DistanceAttention(nn.Module):
    """proj(softmax(q k^T / sqrt(d) + bias by (|dy|, |dx|)) v) over maps (B, H, W, C), any size"""

    def __init__(self, dim: int, heads: int, grid: tuple[int, int] = (14, 14)):
        super().__init__()
        heads = Width(heads, "heads")
        self.attn, self.bias = Attention(dim, heads), DistanceTable(heads, grid)

    def forward(self, x: Tensor) -> Tensor:
        grid = x.shape[1], x.shape[2]
        return self.attn(x.flatten(1, 2), self.bias(grid)[None]).unflatten(1, grid)
