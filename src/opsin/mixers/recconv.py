"""Recursive convolution: one small kernel seen through halved maps reaches far. Zhao et al., 2024, arXiv:2412.19628"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class RecConv(nn.Module):
    """conv_0(x_0 + up(conv_1(x_1 + up(...)))) of x_{l+1} = down(x_l), maps (B, C, H, W); about kernel * 2^level wide

    All convolutions are depthwise, and `down` is the same one at every level: level + 2 kernels, and at most 5/3 of the
    operations of one. `mode` is how coarse maps are enlarged.
    """

    def __init__(self, dim: int, kernel: int = 5, level: int = 2, bias: bool = False, mode: str = "bilinear"):
        super().__init__()
        if level < 0:
            raise ValueError(f"level {level} is below 0, which is one depthwise convolution")
        self.mode = mode
        self.down = depthwise(dim, kernel, 2, bias) if level else nn.Identity()
        self.convs = nn.ModuleList(depthwise(dim, kernel, 1, bias) for _ in range(level + 1))  # coarse to fine

    def forward(self, x: Tensor) -> Tensor:
        coarsest, *finer = self.convs
        maps = [x]
        for _ in finer:
            maps.append(self.down(maps[-1]))
        y = coarsest(maps.pop())
        for conv, m in zip(finer, reversed(maps)):
            y = conv(m + F.interpolate(y, m.shape[2:], mode=self.mode))
        return y


def depthwise(dim: int, kernel: int, stride: int, bias: bool) -> nn.Module:
    return nn.Conv2d(dim, dim, kernel, stride, kernel // 2, groups=dim, bias=bias)
