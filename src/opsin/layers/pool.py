"""From a map to one vector an image. What sizes a pool is the width of the map that it reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GlobalAverage(nn.Module):
    """(B, C, H, W) -> (B, C), the mean over pixels"""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class GlobalMax(nn.Module):
    """(B, C, H, W) -> (B, C), the largest over pixels"""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3))


class GeM(nn.Module):
    """(B, C, H, W) -> (B, C), mean(x^p)^(1/p) over pixels: the mean for p = 1, nearer the largest as p grows

    Radenovic et al., 2017, arXiv:1711.02512. x is taken for `eps` where it is less, and p is learned.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6):
        super().__init__()
        self.p, self.eps = nn.Parameter(torch.tensor([float(p)])), eps

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=self.eps).pow(self.p).mean((2, 3)).pow(1 / self.p)


class GGeM(nn.Module):
    """(B, C, H, W) -> (B, C), GeM with an exponent for each group of neighbouring channels

    Ko et al., 2022, arXiv:2212.04114. One group is GeM; `groups = dim` gives every channel its own exponent.
    """

    group: Tensor
    axes = {"group": ("dim",)}

    def __init__(self, dim: int, groups: int = 8, p: float = 3.0, eps: float = 1e-6):
        super().__init__()
        if groups < 1 or dim % groups:
            raise ValueError(f"{int(dim)} channels cannot be parted into {groups} equal groups: give a divisor")
        self.dim, self.eps = dim, eps
        self.p = nn.Parameter(torch.full((groups,), float(p)))
        self.register_buffer("group", torch.arange(groups).repeat_interleave(dim // groups))

    def forward(self, x: Tensor) -> Tensor:
        p = self.p[self.group]
        return x.clamp(min=self.eps).pow(p[:, None, None]).mean((2, 3)).pow(1 / p)
