"""What a diffusion network is told: the step it is at, and a class or none."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Groups


def sinusoid(t: Tensor, dim: int) -> Tensor:
    """[cos(t f), sin(t f)] (B, dim) of steps (B), f from 1 down to 1 / 10000; Vaswani et al., 2017, arXiv:1706.03762"""
    half = dim // 2
    speeds = torch.exp(-math.log(10000) * torch.arange(half, dtype=t.dtype, device=t.device) / half)
    angles = t[:, None] * speeds
    return F.pad(torch.cat([angles.cos(), angles.sin()], 1), (0, dim % 2))


class Timestep(nn.Module):
    """fc2(silu(fc1(sinusoid(t)))) (B, dim)"""

    def __init__(self, dim: int, hidden: int, seen: int):
        super().__init__()
        self.seen, self.fc1, self.fc2 = seen, nn.Linear(seen, hidden), nn.Linear(hidden, dim)

    def forward(self, t: Tensor) -> Tensor:
        return self.fc2(F.silu(self.fc1(sinusoid(t.to(self.fc1.weight.dtype), self.seen))))


def steps(x: Tensor, t: Tensor | None) -> Tensor:
    """The steps (B) that images are at; zero where nothing is said."""
    return torch.zeros(len(x), device=x.device) if t is None else t


class Labels(nn.Embedding):
    """(B, dim) of labels (B) from 0 to `classes` - 1; row `classes`, also for no labels, stands for none"""

    axes = {"weight": (None, "embedding_dim")}

    def __init__(self, classes: int, dim: int):
        super().__init__(classes + 1, dim)
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:  # type: ignore[override]
        if labels is None:
            labels = torch.full((len(x),), self.num_embeddings - 1, device=x.device)
        return super().forward(labels)


class Modulate(nn.Module):
    """`parts` vectors (B, dim) each from a condition (B, seen): linear(silu(c)). AdaLN of DiT, arXiv:2212.09748"""

    def __init__(self, seen: int, dim: int, parts: int):
        super().__init__()
        self.parts, self.proj = parts, nn.Linear(seen, Groups(parts, dim))

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        return self.proj(F.silu(c)).chunk(self.parts, -1)


def guided(net: nn.Module, x: Tensor, t: Tensor, labels: Tensor, scale: float, channels: int) -> Tensor:
    """Noise guided away from what no class would give: null + scale (cond - null) in the first `channels`

    Labels (2 B) are those of the images x[:B], then as many null ones; both halves of the answer are alike. Ho &
    Salimans, 2022, arXiv:2207.12598.
    """
    half = x[: len(x) // 2]
    out = net(torch.cat([half, half]), t, labels)
    cond, null = out[:, :channels].chunk(2)
    noise = null + scale * (cond - null)
    return torch.cat([torch.cat([noise, noise]), out[:, channels:]], 1)
