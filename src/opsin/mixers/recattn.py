"""Attention on a halved map inside a recursive convolution. Zhao et al., 2024, arXiv:2412.19628"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.conv import Conv
from ..width import Groups, Width

Part = Callable[..., nn.Module]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
EPS = 1e-6
NORMED: Part = partial(Conv, act=None)


def linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """sum_j (q_i k_j) v_j / sum_j (q_i k_j) in the order that costs N d^2; all (B, heads, d, N), q and k positive"""
    n = k.shape[-1]
    context = (k / math.sqrt(n)) @ (v.mT / math.sqrt(n))
    return (q.mT @ context / (q.mT @ k.mean(-1, keepdim=True) + EPS)).mT


def paired(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same by way of all pairs of places, which costs N^2 d: less where places are few"""
    n = k.shape[-1]
    pairs = q.mT @ k
    pairs = pairs / (pairs.mean(-1, keepdim=True) + EPS)
    return ((pairs / math.sqrt(n)) @ (v.mT / math.sqrt(n))).mT


class PositiveAttention(nn.Module):
    """attend(q, k, x) + near(x), [q, k] = elu(norm(conv(x))) + 1 over maps (B, C, H, W); the input itself is the value

    With two `groups` q comes from the first half of the channels and k from the second; both have `ratio` of as many.
    Heads take channels in runs, all of one length.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        attend: Attend = linear,
        part: Part = NORMED,
        groups: int = 2,
        ratio: float = 1.0,
    ):
        super().__init__()
        self.heads, self.attend = heads, attend
        self.keys = Width(int(dim * ratio) // heads, "keys")
        self.qk = part(dim, Groups(2, Groups(heads, self.keys)), 1, groups=groups)
        self.near = part(dim, dim, 3, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k = (F.elu(self.qk(x)) + 1).flatten(2).unflatten(1, (2, self.heads, -1)).unbind(1)
        y = self.attend(q, k, x.flatten(2).unflatten(1, (self.heads, -1)))
        return y.reshape(x.shape) + self.near(x)


class RecAttention(nn.Module):
    """conv(x + up(attention(down(x)))) over maps (B, C, H, W), with norms behind the depthwise convolutions"""

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        kernel: int = 5,
        attend: Attend = linear,
        part: Part = NORMED,
        groups: int = 2,
    ):
        super().__init__()
        self.down, self.attention = part(dim, dim, kernel, 2, dim), PositiveAttention(dim, heads, attend, part, groups)
        self.conv = part(dim, dim, kernel, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.down(x))
        return self.conv(x + F.interpolate(y, x.shape[2:], mode="nearest"))
