"""Sounds, clips and series as images, so that a network of images can read them. Ding et al., 2023, arXiv:2311.15599"""

from __future__ import annotations

import math

from torch import Tensor, nn


class ClipToImage(nn.Module):
    """(B, C, T, H, W) -> (B, C, r H, r W) for T = r^2 frames, laid out as they lie in memory

    A row of the image is r rows of a frame end to end: no mosaic of frames.
    """

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        side = math.isqrt(t)
        if side * side != t:
            raise ValueError(f"{t} frames make no square: take 4, 9, 16, ... of them")
        return x.reshape(b, c, side * h, side * w)


class SpectrogramToImage(nn.Module):
    """(B, time, frequency) -> (B, 1, frequency, time), less `mean`, in deviations of `std`"""

    def __init__(self, mean: float = -6.845978, std: float = 5.5654526):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).mT[:, None]


class SeriesToImage(nn.Module):
    """(N, L, D) -> (N, 1, s, s) for L D = s^2: the L embedded steps of N series, laid out as they lie in memory"""

    def forward(self, x: Tensor) -> Tensor:
        n, steps, dim = x.shape
        side = math.isqrt(steps * dim)
        if side * side != steps * dim:
            raise ValueError(f"{steps} steps of {dim} numbers make no square image: take such that their product does")
        return x.reshape(n, 1, side, side)


class MapToTokens(nn.Module):
    """(N, C, H, W) -> (N, H W, C), laid out as it lies in memory: what a decoder of series reads"""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, h * w, c)
