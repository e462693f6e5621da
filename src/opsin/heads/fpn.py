"""Feature pyramid: every level as fine as its map and as deep as the last. Lin et al., 2017, arXiv:1612.03144"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.init import initialise
from ..width import Width


def conv3(cin: int, cout: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 3, stride, 1)


class Picked(nn.Module):
    """Further levels, each every second pixel of the one before"""

    def __init__(self, levels: int, dim: int, deepest: int):
        super().__init__()
        self.widths = [dim] * levels

    def forward(self, deepest: Tensor, coarsest: Tensor) -> list[Tensor]:
        out = [coarsest]
        for _ in self.widths:
            out.append(out[-1][:, :, ::2, ::2])
        return out[1:]


class Strided(nn.Module):
    """Further levels by strided convolutions of the deepest map, with ReLU between (RetinaNet, arXiv:1708.02002)"""

    def __init__(self, levels: int, dim: int, deepest: int):
        super().__init__()
        self.convs = nn.ModuleList(conv3(dim if i else deepest, dim, 2) for i in range(levels))
        self.widths = [dim] * levels

    def forward(self, deepest: Tensor, coarsest: Tensor) -> list[Tensor]:
        out: list[Tensor] = []
        for i, conv in enumerate(self.convs):
            out.append(conv(out[-1].relu() if i else deepest))
        return out


class FPN(nn.Module):
    """[smooth_i(m_i)] of m_i = lateral_i(map_i) + m_{i+1} enlarged, and coarser levels

    Maps (B, C_i, H_i, W_i), fine to coarse, to `levels` maps of `dim` channels. `smooth(cin, cout)` makes what smooths
    a level, `coarser(levels, dim, deepest)` what makes the further ones.
    """

    def __init__(
        self,
        widths: Sequence[int],
        dim: int = 256,
        levels: int = 0,
        smooth: Callable[[int, int], Any] = conv3,
        coarser: Callable[[int, int, int], Any] = Picked,
    ):
        super().__init__()
        levels = levels or len(widths)
        if levels < len(widths):
            raise ValueError(f"{len(widths)} maps make at least as many levels, not {levels}")
        dim = dim if isinstance(dim, Width) else Width(dim, "pyramid")
        self.lateral = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths)
        self.smooth = nn.ModuleList(smooth(dim, dim) for _ in widths)
        made = [getattr(module, "width", dim) for module in self.smooth]
        self.coarser = coarser(levels - len(widths), made[-1], widths[-1])
        self.widths = made + self.coarser.widths
        initialise(self, conv=nn.init.xavier_uniform_)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        merged = [lateral(m) for lateral, m in zip(self.lateral, maps)]
        for i in reversed(range(len(merged) - 1)):
            merged[i] = merged[i] + F.interpolate(merged[i + 1], merged[i].shape[2:], mode="nearest")
        out = [smooth(m) for smooth, m in zip(self.smooth, merged)]
        return out + self.coarser(maps[-1], out[-1])
