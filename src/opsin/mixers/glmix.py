"""Convolution on the grid of pixels, attention between a few slots that they are clustered to. arXiv:2411.14429"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Width
from .attention import Attention


class PooledSlots(nn.Module):
    """First slots (B, n, C) of unit length: the means over a grid of sqrt(n) by sqrt(n) parts of a map"""

    def __init__(self, dim: int, count: int):
        super().__init__()
        self.side = math.isqrt(count)
        if self.side**2 != count:
            raise ValueError(f"{count} slots are no square grid: give 64, say")

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(F.adaptive_avg_pool2d(x, self.side).flatten(2).mT, dim=-1)


class LearnedSlots(nn.Module):
    """First slots (B, n, C) of unit length that are the same for all images"""

    axes = {"slots": (None, None, "dim")}
    no_decay = ("slots",)

    def __init__(self, dim: int, count: int):
        super().__init__()
        self.dim, self.slots = dim, nn.Parameter(torch.empty(1, count, dim).normal_(std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.slots, dim=-1).expand(len(x), -1, -1)


class GLMix(nn.Module):
    """dispatch(attention(cluster(x))) + local(x) over maps (B, C, H, W)

    Places are clustered softly to `slots` by the cosines between them and the first slots; the slots attend to each
    other, and every place takes back what its slots have found, by the same affinities. Attention costs the same at
    any resolution. `local` is a depthwise convolution between two pointwise ones.
    """

    def __init__(self, dim: int, heads: int, slots: int = 64, kernel: int = 5, first: type[nn.Module] = PooledSlots):
        super().__init__()
        self.first, self.attn = first(dim, slots), Attention(dim, heads)
        self.scale = nn.Parameter(torch.tensor(float(dim) ** -0.5))
        inner = Width(dim, "local")
        near = nn.Conv2d(inner, inner, kernel, padding=kernel // 2, groups=inner)
        self.local = nn.Sequential(nn.Conv2d(dim, inner, 1), near, nn.Conv2d(inner, dim, 1))

    def affinity(self, x: Tensor, seed: Tensor | None = None) -> Tensor:
        """Logits (B, slots, H W) of places and slots; the first slots are read off `seed`, or x itself."""
        return self.first(x if seed is None else seed) @ (self.scale * F.normalize(x.flatten(2), dim=1))

    def maps(self, x: Tensor, seed: Tensor | None = None) -> Tensor:
        """Each place's shares in the slots (B, slots, H, W), which add up to 1: to be looked at."""
        return self.affinity(x, seed).softmax(1).unflatten(2, x.shape[2:])

    def forward(self, x: Tensor, seed: Tensor | None = None) -> Tensor:
        logits = self.affinity(x, seed)
        slots = self.attn(logits.softmax(2) @ x.flatten(2).mT)
        return (slots.mT @ logits.softmax(1)).unflatten(2, x.shape[2:]) + self.local(x)
