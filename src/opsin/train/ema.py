"""A running average of a network's weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn


class Ema:
    """`average = d * average + (1 - d) * weights` after each step, for parameters and running statistics alike.

    `d` grows as `(1 + t) / (10 + t)` up to `decay`, so that the first steps do not keep the average near the start.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.model = deepcopy(model).eval().requires_grad_(False)
        self.average, self.weights = floating(self.model), floating(model)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After training step number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.average, self.weights, 1 - decay)


def floating(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers that can be averaged: counters cannot."""
    return [t for t in model.state_dict(keep_vars=True).values() if t.is_floating_point()]
