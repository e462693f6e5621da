"""The discrete cosine transform of maps: a spectrum without complex numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PRODUCT = 64  # sides up to here are as quick by a matrix


def cosines(n: int, device: torch.device | None = None, dtype: torch.dtype = torch.float64) -> Tensor:
    """The orthonormal DCT-II as a matrix (frequency, place), computed in float64."""
    at = torch.arange(n, dtype=torch.float64, device=device)
    rows = torch.cos(math.pi / n * torch.outer(at, at + 0.5)) * math.sqrt(2 / n)
    rows[0] /= math.sqrt(2)
    return rows.to(dtype)


def dct(x: Tensor) -> Tensor:
    """The spectrum (..., u, v) of maps (..., H, W), of the same size and energy

    Sides up to `PRODUCT` are matrix products, longer ones Fourier transforms: cost N log N for N places.
    """
    return along(along(x).mT).mT


def idct(x: Tensor) -> Tensor:
    """Maps of their spectrum: the inverse of `dct`"""
    return back(back(x).mT).mT


def along(x: Tensor) -> Tensor:
    """The transform of the last axis."""
    n = x.shape[-1]
    if n <= PRODUCT:
        return x @ cosines(n, x.device, x.dtype).mT
    folded = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
    return (torch.fft.fft(folded) * turns(x, -1)).real * scales(x)


def back(x: Tensor) -> Tensor:
    """The inverse of `along`."""
    n = x.shape[-1]
    if n <= PRODUCT:
        return x @ cosines(n, x.device, x.dtype)
    y = x / scales(x)
    mirrored = torch.cat([torch.zeros_like(y[..., :1]), y[..., 1:].flip(-1)], -1)
    folded = torch.fft.ifft(torch.complex(y, -mirrored) * turns(x, 1)).real
    half = (n + 1) // 2
    out = torch.empty_like(x)
    out[..., ::2], out[..., 1::2] = folded[..., :half], folded[..., half:].flip(-1)
    return out


def turns(x: Tensor, sign: int) -> Tensor:
    """exp(sign i pi u / 2N) for every frequency u."""
    n = x.shape[-1]
    angle = torch.arange(n, dtype=x.dtype, device=x.device) * (sign * math.pi / (2 * n))
    return torch.polar(torch.ones_like(angle), angle)


def scales(x: Tensor) -> Tensor:
    n = x.shape[-1]
    made = torch.full((n,), math.sqrt(2 / n), dtype=x.dtype, device=x.device)
    made[0] = math.sqrt(1 / n)
    return made
