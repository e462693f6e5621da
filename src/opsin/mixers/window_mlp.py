"""One linear layer over the places of a window, a matrix for each head. Liu et al., 2021, arXiv:2103.14030"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Groups


class WindowMlp(nn.Module):
    """y[place, head] = sum over places of weight[head] x[place, head] inside squares of a (B, H, W, C) map

    Windows begin `window - shift` pixels before the map's corner; what they hold beside the map is zero. So nothing
    is rolled and nothing masked: pixels that are far apart never meet.
    """

    def __init__(self, heads: int, window: int = 7, shift: int = 0):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        places = Groups(heads, window**2)
        self.spatial = nn.Conv1d(places, places, 1, groups=heads)

    def forward(self, x: Tensor) -> Tensor:
        (b, h, w, _), n = x.shape, self.window
        before = -self.shift % n if min(h, w) > n else 0  # one window: nothing to shift
        below, right = -(h + before) % n, -(w + before) % n
        x = F.pad(x, (0, 0, before, right, before, below))
        rows, cols = x.shape[1] // n, x.shape[2] // n
        x = x.reshape(b, rows, n, cols, n, self.heads, -1).permute(0, 1, 3, 5, 2, 4, 6)
        y = self.spatial(x.reshape(b * rows * cols, self.heads * n * n, -1))
        y = y.reshape(b, rows, cols, self.heads, n, n, -1).permute(0, 1, 4, 2, 5, 3, 6)
        y = y.reshape(b, rows * n, cols * n, -1)
        return y[:, before : before + h, before : before + w]
