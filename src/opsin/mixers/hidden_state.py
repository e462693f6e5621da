"""HSM-SSD: a state space whose mixing is done on its few hidden states. Lee et al., 2024, arXiv:2411.15241"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Concat, Width


class HiddenStateMixer(nn.Module):
    """A map (B, C, H, W) and its hidden states: y = C h, h = out(h' silu(z) + h' skip), [h', z] = proj((A * B) x)

    B, C and dt are read off the map by a pointwise and a depthwise convolution; A is the softmax over places of dt plus
    `decay`. Every place sees all others through the N `states` (B, N, C), at a cost of L C N + N C^2 for L places.
    The number of states is fixed: their mean is what heads read.
    """

    no_decay = ("decay", "skip")

    def __init__(self, dim: int, states: int, expand: float = 1.0):
        super().__init__()
        inner = Width(int(dim * expand), "inner")
        self.inner = inner
        self.read = nn.Conv2d(dim, 3 * states, 1, bias=False)
        self.near = nn.Conv2d(3 * states, 3 * states, 3, padding=1, groups=3 * states, bias=False)
        self.decay, self.skip = nn.Parameter(torch.empty(states).uniform_(1, 16)), nn.Parameter(torch.ones(1))
        self.proj = nn.Linear(dim, Concat(inner, inner), bias=False)
        self.out = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        b, c, dt = self.near(self.read(x)).flatten(2).chunk(3, 1)  # (B, N, L) each
        a = (dt + self.decay[:, None]).softmax(-1)
        h, z = self.proj((a * b) @ x.flatten(2).mT).split(int(self.inner), -1)
        h = self.out(h * F.silu(z) + h * self.skip)
        return (h.mT @ c).unflatten(2, x.shape[2:]), h
