"""Attention inside shifted windows. Liu et al., 2021, arXiv:2103.14030"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.position import RelativeBias
from ..width import Width
from .attention import Attention


class WindowAttention(nn.Module):
    """attention + relative bias inside squares of a (B, H, W, C) map, the grid rolled by `shift` pixels

    Maps that windows do not fill are padded below and right with zeros, which take part in the attention. `attention`
    and `bias` are made of (dim, heads) and (heads, window).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int = 7,
        shift: int = 0,
        attention: Callable[[int, int], nn.Module] = Attention,
        bias: Callable[[int, int], nn.Module] = RelativeBias,
    ):
        super().__init__()
        self.window, self.shift = window, shift
        heads = Width(heads, "heads")
        self.bias, self.attn = bias(heads, window), attention(dim, heads)

    def forward(self, x: Tensor) -> Tensor:
        (_, h, w, _), n = x.shape, self.window
        s = 0 if min(h, w) <= n else self.shift  # one window: nothing to shift
        if h % n or w % n:
            x = F.pad(x, (0, 0, 0, -w % n, 0, -h % n))
        bias = self.bias()[None]
        if s:
            x = x.roll((-s, -s), (1, 2))
            mask = shift_mask(x.shape[1], x.shape[2], n, s, x.device).to(bias.dtype)
            bias = (bias + mask).repeat(x.shape[0], 1, 1, 1)
        windows, grid = parted(x, n)
        x = whole(self.attn(windows, bias), n, grid)
        if s:
            x = x.roll((s, s), (1, 2))
        return x[:, :h, :w] if h % n or w % n else x


def parted(x: Tensor, window: int) -> tuple[Tensor, tuple[int, int]]:
    """Windows (B rows columns, window^2, C) of a map (B, H, W, C) that they fill, and how many rows and columns."""
    b, h, w, c = x.shape
    rows, cols = h // window, w // window
    x = x.reshape(b, rows, window, cols, window, c).transpose(2, 3)
    return x.reshape(-1, window * window, c), (rows, cols)


def whole(x: Tensor, window: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of `parted`."""
    x = x.reshape(-1, *grid, window, window, x.shape[-1]).transpose(2, 3)
    return x.reshape(x.shape[0], grid[0] * window, grid[1] * window, -1)


def shift_mask(h: int, w: int, window: int, shift: int, device: torch.device) -> Tensor:
    """-100 between pixels that only the roll made neighbours: (windows, 1, N, N)."""

    def zone(n: int) -> Tensor:
        at = torch.arange(n, device=device)
        return (at >= n - window).int() + (at >= n - shift)

    z = (zone(h)[:, None] * 3 + zone(w)).reshape(h // window, window, w // window, window)
    z = z.transpose(1, 2).reshape(-1, window**2)
    return torch.where(z[:, None] == z[:, :, None], 0.0, -100.0)[:, None]
