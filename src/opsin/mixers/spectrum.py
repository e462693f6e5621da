"""Mixing in the spectrum of the cosine transform, by weights that the image chooses. Hu & Gao, 2023, arXiv:2309.06721

Nothing of this network was published but its description; what is not said there is settled here: learned filters are
mixed by coefficients that a small network reads off the map's mean.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.act import GELU
from ..layers.cosine import dct, idct
from ..width import Width


class DynamicSpectrum(nn.Module):
    """idct(W * dct(x)) over maps (B, C, H, W), W = sum over k of a_k filter_k, a = softmax(mlp(mean of x))

    Filters (K, C, h, w) belong to a `grid` and are resampled for others, bilinear; they start at 1, where the mixer is
    the identity. Their number is fixed: their coefficients add up to 1. The transform costs C H W (H + W), or C N log N
    for N places of larger maps: nothing grows with the square of the places.
    """

    axes = {"filters": (None, "dim")}
    no_decay = ("filters",)

    def __init__(self, dim: int, count: int = 4, ratio: float = 0.25, grid: tuple[int, int] = (14, 14)):
        super().__init__()
        hidden, self.dim = Width(max(1, int(dim * ratio)), "hidden"), dim
        self.weigh = nn.Sequential(nn.Linear(dim, hidden), GELU(), nn.Linear(hidden, count))
        self.filters = nn.Parameter(1 + 0.02 * torch.randn(count, dim, *grid))

    def spectrum(self, x: Tensor) -> Tensor:
        """The weights (B, C, H, W) of the frequencies."""
        a = self.weigh(x.mean((2, 3))).softmax(-1)
        filters: Tensor = self.filters
        if filters.shape[2:] != x.shape[2:]:
            filters = F.interpolate(filters, x.shape[2:], mode="bilinear", align_corners=False)
        return torch.einsum("bk,kchw->bchw", a, filters)

    def forward(self, x: Tensor) -> Tensor:
        return idct(self.spectrum(x) * dct(x))
