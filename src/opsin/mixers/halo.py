"""Local attention in blocks that see a halo around them. Vaswani et al., 2021, arXiv:2103.12731"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Concat, Groups, Width
from .attention import attend


class HaloAttention(nn.Module):
    """softmax(q k^T / sqrt(d) + q r) v over maps (B, C, H, W): each block of queries sees itself and a halo of pixels

    Keys outside the map are zeros that take part. r are learned vectors of the key's row and of its column, relative to
    the query's: that of a query in row i of its block and a key in row j of the window is number j - i + window - 1.
    Maps that blocks do not fill are filled with zeros below and right. A `stride` thins out the queries; values are
    `ratio` times as wide as queries and keys.
    """

    no_decay = ("rows", "columns")

    def __init__(self, dim: int, heads: int, block: int = 8, halo: int = 3, stride: int = 1, ratio: float = 1.0):
        super().__init__()
        self.block, self.halo, self.window, self.stride = block, halo, block + 2 * halo, stride
        size, self.heads = dim // heads, Width(heads, "heads")
        self.sizes = [size, int(size * ratio)]
        self.width = Groups(self.heads, self.sizes[1])
        self.q = nn.Conv2d(dim, Groups(self.heads, size), 1, stride, bias=False)
        self.kv = nn.Conv2d(dim, Groups(self.heads, Concat(*self.sizes)), 1, bias=False)
        self.rows = nn.Parameter(torch.empty(2 * self.window - 1, size).normal_(std=size**-0.5))
        self.columns = nn.Parameter(torch.empty(2 * self.window - 1, size).normal_(std=size**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        n, (h, w) = self.block, x.shape[2:]
        x = F.pad(x, (0, -w % n, 0, -h % n))
        q, side = self.q(x), n // self.stride
        rows, columns = q.shape[2] // side, q.shape[3] // side
        q = q.unflatten(3, (columns, side)).unflatten(2, (rows, side)).unflatten(1, (self.heads, -1))
        q = q.permute(0, 1, 3, 5, 4, 6, 2)  # (B, heads, rows, columns, side, side, d)
        kv = F.pad(self.kv(x), (self.halo,) * 4).unfold(2, self.window, n).unfold(3, self.window, n)
        k, v = kv.unflatten(1, (self.heads, -1)).permute(0, 1, 3, 4, 5, 6, 2).flatten(4, 5).split(self.sizes, -1)
        y = attend(q.flatten(4, 5), k, v, self.relative(q))
        y = y.unflatten(4, (side, side)).permute(0, 1, 6, 2, 4, 3, 5).flatten(5).flatten(3, 4).flatten(1, 2)
        return y[:, :, : -(h // -self.stride), : -(w // -self.stride)]

    def relative(self, q: Tensor) -> Tensor:
        """Logits by place, (..., queries, keys), of queries (..., side, side, d)."""
        side = q.shape[-2]
        at = torch.arange(self.window, device=q.device) - torch.arange(side, device=q.device)[:, None] + self.window - 1
        down = torch.einsum("...yxd,ykd->...yxk", q, self.rows[at])
        along = torch.einsum("...yxd,xkd->...yxk", q, self.columns[at])
        return (down[..., :, None] + along[..., None, :]).flatten(-2).flatten(-3, -2)
