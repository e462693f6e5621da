"""Average pooling in place of attention. Yu et al., 2021, arXiv:2111.11418"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Pooling(nn.Module):
    """mean of the neighbours in a square - x, over maps (B, H, W, C); nothing is learned, constants become 0

    Neighbours outside the map do not count. `dim` is taken as by other mixers and not needed.
    """

    def __init__(self, dim: int, kernel: int = 3):
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool2d(x.movedim(-1, 1), self.kernel, 1, self.kernel // 2, count_include_pad=False)
        return y.movedim(1, -1) - x
