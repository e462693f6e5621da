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
        return self.dropped(x, len(x), self.rate)

    def dropped(self, x: Tensor, coins: int, rate: float) -> Tensor:
        """`x` with a coin tossed for each sample, or one for all of them."""
        kept = torch.rand(coins, *[1] * (x.ndim - 1), device=x.device) >= rate
        return x * kept.to(x.dtype) / (1 - rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"


class DropLayer(DropPath):
    """The paper's form: a residual branch is zeroed for the whole mini-batch, which makes the network shallower"""

    def forward(self, x: Tensor) -> Tensor:
        return self.dropped(x, 1, self.rate) if self.training and self.rate else x


class ScheduledDropPath(DropPath):
    """The rate rises linearly over training: `rate * progress`. Zoph et al., 2017, arXiv:1707.07012"""

    progress = 0.0  # the share of training done

    def forward(self, x: Tensor) -> Tensor:
        rate = self.rate * self.progress
        return self.dropped(x, len(x), rate) if self.training and rate else x


def advance(model: nn.Module, progress: float) -> None:
    """Tell every module of a model that has a `progress` the share of training done, 0 to 1, before each step."""
    for m in model.modules():
        if isinstance(getattr(m, "progress", None), float | int):
            vars(m)["progress"] = progress


def ramp(rate: float, n: int) -> Iterator[float]:
    """Stochastic-depth rates rising from 0 to `rate` over n blocks, taken with next()."""
    return (rate * i / max(n - 1, 1) for i in range(n))
