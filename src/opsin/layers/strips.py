"""A large kernel that trains with a smaller one and two strips at its side. Yun et al., 2024, arXiv:2406.02021"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .reparam import fused, like


class StripSum(nn.Module):
    """A depthwise k x k, for k > 3 a (k - 4) x (k - 4), a 1 x k and a k x 1, each normalised, added up

    One convolution when `merged`.
    """

    def __init__(self, dim: int, kernel: int):
        super().__init__()
        sides = [(kernel, kernel), *([(kernel - 4, kernel - 4)] if kernel > 3 else []), (1, kernel), (kernel, 1)]
        self.kernel = kernel
        self.branches = nn.ModuleList(branch(dim, *side) for side in sides)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.branches
        y = first(x)
        for other in others:
            y = y + other(x)
        return y

    def merged(self) -> nn.Conv2d:
        parts: list[Any] = [fused(*branch) for branch in cast(Any, self.branches)]
        margins = [tuple((self.kernel - s) // 2 for s in part.kernel_size) for part in parts]
        weight = sum(F.pad(part.weight, (w, w, h, h)) for part, (h, w) in zip(parts, margins))
        bias = torch.stack([part.bias for part in parts]).sum(0)
        return like(parts[0], cast(Tensor, weight), bias)


def branch(dim: int, h: int, w: int) -> nn.Sequential:
    conv = nn.Conv2d(dim, dim, (h, w), padding=(h // 2, w // 2), groups=dim, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(dim))
