"""Attention in windows, near and spread over the whole map, that share queries, keys and values. arXiv:2412.06674"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.act import GELU
from ..width import Concat, Groups, Width
from .attention import attend

Layout = Callable[[Tensor, int, int], Tensor]


def close(x: Tensor, h: int, w: int) -> Tensor:
    """A map (B, C, H, W) as (B, rows, columns, C, h, w): windows of neighbours"""
    return x.unflatten(3, (-1, w)).unflatten(2, (-1, h)).permute(0, 2, 4, 1, 3, 5)


def remote(x: Tensor, h: int, w: int) -> Tensor:
    """A map (B, C, H, W) as (B, rows, columns, C, h, w): each window's pixels lie spread over the whole map"""
    return x.unflatten(3, (w, -1)).unflatten(2, (h, -1)).permute(0, 3, 5, 1, 2, 4)


def closed(x: Tensor) -> Tensor:
    """The inverse of `close`."""
    return x.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def gathered(x: Tensor) -> Tensor:
    """The inverse of `remote`."""
    return x.permute(0, 3, 4, 1, 5, 2).flatten(4).flatten(2, 3)


INVERSE: dict[Layout, Callable[[Tensor], Tensor]] = {close: closed, remote: gathered}


class SpanningAttention(nn.Module):
    """sum over layouts of softmax(q k^T / sqrt(d)) v in windows, v = act(conv(x)), maps (B, C, H, W)

    Maps that windows do not fill are padded below and right with zeros, which take part in the attention; a window of
    0 is the whole map. `width` channels come out, as many as go in unless `cout` says otherwise.
    """

    def __init__(
        self,
        dim: int,
        head_dim: int = 32,
        window: int = 7,
        layouts: Sequence[Layout] = (remote, close),
        cout: int | None = None,
        act: Callable[[], nn.Module] = GELU,
        bias: bool = True,
    ):
        super().__init__()
        if dim % head_dim:
            raise ValueError(f"{int(dim)} channels make no heads of {head_dim}: give a divisor")
        self.window, self.layouts = window, tuple(layouts)
        self.heads = Width(dim // head_dim, "heads")
        inner = Groups(self.heads, head_dim)
        self.width = Groups(self.heads, Width((cout or dim) // self.heads, "value"))
        self.qk = nn.Conv2d(dim, Concat(inner, inner), 1, bias=bias)
        self.v, self.act = nn.Conv2d(dim, self.width, 1, bias=bias), act()

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        tall, wide = (self.window, self.window) if self.window > 0 else (h, w)
        x = F.pad(x, (0, -w % wide, 0, -h % tall))
        qk, v = self.qk(x), self.act(self.v(x))
        y = [self.attended(qk, v, layout, tall, wide) for layout in self.layouts]
        return torch.stack(y).sum(0)[:, :, :h, :w]

    def attended(self, qk: Tensor, v: Tensor, layout: Layout, tall: int, wide: int) -> Tensor:
        q, k = layout(qk, tall, wide).flatten(4).unflatten(3, (2, self.heads, -1)).mT.unbind(3)
        v = layout(v, tall, wide).flatten(4).unflatten(3, (self.heads, -1)).mT
        y = attend(q, k, v).mT.flatten(3, 4).unflatten(-1, (tall, wide))
        return INVERSE[layout](y)
