"""Simplified linear attention: ReLU features in place of the softmax. Guo et al., 2024, arXiv:2405.11582"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.position import resampled
from ..width import Concat, Groups, Width
from .window import parted, whole


class SimplifiedAttention(nn.Module):
    """proj(q (k^T v) / (q sum k + 1e-6) + dwconv(v)) over maps (B, H, W, C), q and k behind a ReLU; cost linear in H W

    Keys have learned positions first, of the `grid`, resampled for others. Heads share the depthwise convolution.
    """

    axes = {"table": (None, None, "inner")}
    no_decay = ("table",)

    def __init__(self, dim: int, heads: int, grid: tuple[int, int] = (14, 14), kernel: int = 5):
        super().__init__()
        size = Width(dim // heads, "head_dim")
        self.heads, self.grid = Width(heads, "heads"), grid
        self.inner = Groups(self.heads, size)
        self.qkv = nn.Linear(dim, Concat(self.inner, self.inner, self.inner))
        self.table = nn.Parameter(torch.zeros(1, grid[0] * grid[1], self.inner))
        self.dwconv = nn.Conv2d(size, size, kernel, padding=kernel // 2, groups=size)
        self.proj = nn.Linear(self.inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        grid = x.shape[1], x.shape[2]
        q, k, v = self.qkv(x.flatten(1, 2)).chunk(3, -1)
        k = k + (self.table if grid == self.grid else resampled(self.table, 0, self.grid, grid))
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (F.relu(q), F.relu(k), v))
        y = q @ (k.mT @ v) / (q @ k.sum(2)[..., None] + 1e-6)
        near = self.dwconv(v.mT.flatten(0, 1).unflatten(2, grid)).flatten(2).mT
        y = y + near.unflatten(0, (-1, int(self.heads)))
        return self.proj(y.transpose(1, 2).flatten(2)).unflatten(1, grid)


class Windows(nn.Module):
    """mixer, which takes maps (B, H, W, C), in squares of `window` pixels of maps that are larger

    What windows do not fill is padded below and right with zeros, which take part.
    """

    def __init__(self, mixer: nn.Module, window: int):
        super().__init__()
        self.mixer, self.window = mixer, window

    def forward(self, x: Tensor) -> Tensor:
        (_, h, w, _), n = x.shape, self.window
        if max(h, w) <= n:
            return self.mixer(x)
        x = F.pad(x, (0, 0, 0, -w % n, 0, -h % n))
        windows, grid = parted(x, n)
        y = self.mixer(windows.unflatten(1, (n, n))).flatten(1, 2)
        return whole(y, n, grid)[:, :h, :w]
