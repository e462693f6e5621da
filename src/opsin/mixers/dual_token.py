"""A map that attends to its shrunk copy and to global tokens. After Chu et al., 2023, arXiv:2309.12424

Nothing but the description was published: how tokens are updated, and by what steps maps shrink, is settled here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Conv
from ..layers.act import GELU
from ..width import Concat, Groups, Width


class TokenUpdate(nn.Module):
    """alpha g + (1 - alpha) means of the map's parts: (B, side^2, C), each token for its part; alpha is learned"""

    def __init__(self, side: int = 7, alpha: float = 0.5):
        super().__init__()
        self.side, self.alpha = side, nn.Parameter(torch.tensor(alpha))

    def forward(self, g: Tensor, x: Tensor) -> Tensor:
        return torch.lerp(F.adaptive_avg_pool2d(x, self.side).flatten(2).mT, g, self.alpha)


class GlobalAttention(nn.Module):
    """proj(softmax(q k^T / sqrt(d)) v) over maps (B, C, H, W); keys and values of tokens g and the map, shrunk

    It shrinks by `steps` strided depthwise convolutions and at last to `side` rows and columns whatever its size: the
    cost grows with H W, not its square.
    """

    def __init__(self, dim: int, heads: int, steps: int = 1, side: int = 7):
        super().__init__()
        self.heads = Width(heads, "heads")
        inner = Groups(self.heads, dim // heads)
        halves = [Conv(dim, dim, 3, 2, dim, act=GELU) for _ in range(steps)]
        self.shrink = nn.Sequential(*halves, nn.AdaptiveAvgPool2d(side))
        self.q, self.kv, self.proj = nn.Linear(dim, inner), nn.Linear(dim, Concat(inner, inner)), nn.Linear(inner, dim)

    def forward(self, x: Tensor, g: Tensor | None = None) -> Tensor:
        few = self.shrink(x).flatten(2).mT
        few = few if g is None else torch.cat([few, g], 1)
        q = self.q(x.flatten(2).mT).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(few).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2)).mT.unflatten(2, x.shape[2:])
