"""HorFPN: a feature pyramid whose levels are smoothed by gated convolutions. Rao et al., 2022, arXiv:2207.14284"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.init import initialise
from ..mixers.gnconv import Near, Recursion, Spread
from ..width import Width


class GnConvModule(nn.Module):
    """proj_out(recursion(x)): a gated convolution from `cin` to `cout` channels, without `proj` the recursion alone

    `ratio` of `cout` channels are inside. Put where a 3x3 convolution stood.
    """

    def __init__(
        self, cin: int, cout: int, order: int = 2, spread: Spread = Near, ratio: float = 1.0, proj: bool = True
    ):
        super().__init__()
        self.recursion = Recursion(cin, int(cout * ratio), order, spread)
        self.width = self.recursion.dims[-1]
        if not proj and self.width != cout:
            raise ValueError(f"the recursion makes {int(self.width)} channels, not {int(cout)}: take proj or ratio 1")
        self.proj_out = nn.Conv2d(self.width, cout, 1) if proj else nn.Identity()
        self.width = cout if proj else self.width

    def forward(self, x: Tensor) -> Tensor:
        return self.proj_out(self.recursion(x))


class HorFPN(nn.Module):
    """[smooth_i(m_i)] of m_i = lateral_i(map_i) + m_{i+1} enlarged, and coarser levels picked from the last

    Maps (B, C_i, H_i, W_i), fine to coarse, to `levels` maps of `dim` channels; each further level has every second
    pixel of the one before. `smooth(cin, cout)` makes what stands in for the 3x3 convolution.
    """

    def __init__(
        self,
        widths: Sequence[int],
        dim: int = 256,
        levels: int = 5,
        smooth: Callable[[int, int], Any] = GnConvModule,
    ):
        super().__init__()
        if levels < len(widths):
            raise ValueError(f"{len(widths)} maps make at least as many levels, not {levels}")
        dim = dim if isinstance(dim, Width) else Width(dim, "pyramid")
        self.extra = levels - len(widths)
        self.lateral = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths)
        self.smooth = nn.ModuleList(smooth(dim, dim) for _ in widths)
        self.widths = [module.width for module in self.smooth] + [self.smooth[-1].width] * self.extra
        initialise(self, conv=nn.init.xavier_uniform_)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        merged = [lateral(m) for lateral, m in zip(self.lateral, maps)]
        for i in reversed(range(len(merged) - 1)):
            merged[i] = merged[i] + F.interpolate(merged[i + 1], merged[i].shape[2:], mode="nearest")
        out = [smooth(m) for smooth, m in zip(self.smooth, merged)]
        for _ in range(self.extra):
            out.append(out[-1][:, :, ::2, ::2])
        return out
