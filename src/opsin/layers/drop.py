"""Stochastic depth. Huang et al., 2016, arXiv:1603.09382"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """While training, zero a residual branch for a share `rate` of the samples and scale up the rest."""

    def __init__(self, rate: float = 0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * kept.to(x.dtype) / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"


def ramp(rate: float, n: int) -> Iterator[float]:
    """Stochastic-depth rates rising from 0 to `rate` over n blocks, taken with next()."""
    return (rate * i / max(n - 1, 1) for i in range(n))
