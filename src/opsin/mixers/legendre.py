"""Legendre memory units, which keep the recent past as a polynomial. Liu et al., 2024 (LMUFormer), arXiv:2402.04882

After Voelker et al., 2019: the memory m of one number u a step holds its last `theta` steps as the coefficients of
shifted Legendre polynomials.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..layers.spike import LeakyFire
from ..width import Concat

Matrix = NDArray[np.float64]


@cache
def discretised(size: int, theta: float) -> tuple[Matrix, Matrix]:
    """A (size, size) and B (size) of m_t = A m_{t-1} + B u_t, held over each step."""
    i = np.arange(size)
    rate = (2 * i + 1) / theta
    lower = np.where(i[:, None] < i, -1.0, (-1.0) ** (i[:, None] - i + 1))
    whole = np.zeros((size + 1, size + 1))
    whole[:size, :size], whole[:size, size] = rate[:, None] * lower, rate * (-1.0) ** i
    held = torch.linalg.matrix_exp(torch.from_numpy(whole)).numpy()
    return held[:size, :size], held[:size, size]


@cache
def impulse(size: int, theta: float, length: int) -> Matrix:
    """What is left of one u after 0, 1, ... steps (size, length)."""
    a, m = discretised(size, theta)
    made = []
    for _ in range(length):
        made.append(m)
        m = a @ m
    return np.stack(made, 1)


def remembered(u: Tensor, size: int, theta: float) -> Tensor:
    """The memory (B, N, size) behind every step of u (B, N), all at once by Fourier transform."""
    n = u.shape[1]
    response = torch.from_numpy(impulse(size, theta, n)).to(u)
    made = torch.fft.rfft(u, 2 * n)[:, None] * torch.fft.rfft(response, 2 * n)
    return torch.fft.irfft(made, 2 * n)[..., :n].mT


class LegendreCell(nn.Module):
    """h = relu(out([m, x])), m the memory of u = relu(read(x)), over sequences (B, N, C)"""

    def __init__(self, dim: int, hidden: int, memory: int, theta: float = 128):
        super().__init__()
        self.memory, self.theta = memory, theta
        self.read, self.out = nn.Linear(dim, 1), nn.Linear(Concat(memory, dim), hidden)

    def forward(self, x: Tensor) -> Tensor:
        m = remembered(F.relu(self.read(x))[..., 0], self.memory, self.theta)
        return F.relu(self.out(torch.cat([m, x], -1)))

    def step(self, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        """One step (B, C), and the memory (B, size) before it: the answer, and the memory behind it."""
        a, b = (torch.from_numpy(t).to(x) for t in discretised(self.memory, self.theta))
        m = m @ a.mT + F.relu(self.read(x)) * b
        return F.relu(self.out(torch.cat([m, x], -1))), m


class SpikingCell(LegendreCell):
    """A cell whose u, m and h are spikes, each behind a norm"""

    def __init__(self, dim: int, hidden: int, memory: int, theta: float = 128):
        super().__init__(dim, hidden, memory, theta)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in (1, memory, hidden))
        self.fire = LeakyFire()

    def spikes(self, x: Tensor, i: int) -> Tensor:
        return self.fire(self.norms[i](x.mT)).mT

    def forward(self, x: Tensor) -> Tensor:
        u = self.spikes(self.read(x), 0)
        m = self.spikes(remembered(u[..., 0], self.memory, self.theta), 1)
        return self.spikes(self.out(torch.cat([m, x], -1)), 2)
