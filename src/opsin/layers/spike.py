"""Neurons that answer in spikes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Spike(torch.autograd.Function):
    """1 where x >= 0, else 0, with the slope of sigmoid(4 x)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = (4 * x).sigmoid()
        return g * 4 * s * (1 - s)


class LeakyFire(nn.Module):
    """Leaky integrate-and-fire along `dim`: v <- v + (x - v) / tau, a spike and v <- 0 where v reaches the threshold

    Starts from v = 0; no gradient flows through the reset. `step` takes one place and the v before it.
    """

    def __init__(self, threshold: float = 1.0, tau: float = 2.0, dim: int = -1):
        super().__init__()
        self.threshold, self.tau, self.dim = threshold, tau, dim

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = v + (x - v) / self.tau
        spike = Spike.apply(v - self.threshold)  # type: ignore[no-untyped-call]
        return spike, v * (1 - spike.detach())

    def forward(self, x: Tensor) -> Tensor:
        v, made = torch.zeros_like(x.select(self.dim, 0)), []
        for place in x.unbind(self.dim):
            spike, v = self.step(place, v)
            made.append(spike)
        return torch.stack(made, self.dim)
