"""To a coarser map without learning."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Downsample(nn.Module):
    """What hands on every `stride`-th pixel without learning; a stride of 1 set later leaves all of them."""

    def __init__(self, stride: int = 2):
        super().__init__()
        self.stride = stride

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class AveragePool(Downsample):
    """The mean of `stride` x `stride` pixels"""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.stride)


class AverageDown(Downsample):
    """The mean of 2x2 pixels, of those inside the map at its lower and right edge"""

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:  # the same windows at every pixel; those that reach out are filled with zeros
            return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)
        return F.avg_pool2d(x, 2, self.stride, ceil_mode=True, count_include_pad=False)


class BlurPool(Downsample):
    """A binomial 3x3 filter before pixels are left out: no aliasing. Zhang, 2019, arXiv:1904.11486"""

    filter: Tensor

    def __init__(self, stride: int = 2):
        super().__init__(stride)
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("filter", (line[:, None] * line)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        filters = self.filter.expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), filters, stride=self.stride, groups=x.shape[1])
