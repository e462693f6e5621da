"""HorFPN: a feature pyramid whose levels are smoothed by gated convolutions. Rao et al., 2022, arXiv:2207.14284"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ..mixers.gnconv import Near, Recursion, Spread
from .fpn import FPN


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


class HorFPN(FPN):
    """`FPN` whose levels are smoothed by gated convolutions"""

    def __init__(
        self,
        widths: Sequence[int],
        dim: int = 256,
        levels: int = 5,
        smooth: Callable[[int, int], Any] = GnConvModule,
    ):
        super().__init__(widths, dim, levels, smooth)
