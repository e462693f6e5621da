"""Mixing by wavelets: Haar bands of several levels, each mixed at its size and brought up. arXiv:2205.14375"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from ..layers.act import GELU
from ..layers.haar import Haar
from ..width import Concat, Groups, Width


class WaveMix(nn.Module):
    """up_1[w_1, up_2[w_2, ... up_L[w_L]]] over maps (B, C, H, W), w_l the Haar bands of level l of a quarter's channels

    Each `up` is a pointwise pair and a transposed convolution to twice the size, `ratio` C and `inner` channels wide.
    One level is WaveMix-Lite. Sides that are no multiples of 2^levels are padded, and cut again.
    """

    def __init__(self, dim: int, levels: int = 1, ratio: int = 2, inner: int | None = None, dropout: float = 0.0):
        super().__init__()
        quarter, size = Width(max(1, dim // 4), "reduced"), inner or dim
        bands = Concat(quarter, Groups(quarter, 3))
        self.reduce, self.haar = nn.Conv2d(dim, quarter, 1), Haar()
        ups: list[nn.Module] = []
        below: list[int] = []
        for level in range(levels, 0, -1):
            cout = Width(dim // 2, "up") if level > 1 else dim
            ups.append(up(Concat(bands, *below), ratio * int(dim), size, cout, dropout))
            below = [cout]
        self.ups = nn.ModuleList(reversed(ups))

    def forward(self, x: Tensor) -> Tensor:
        low, bands = self.reduce(x), []
        sides = [x.shape[2:]]
        for _ in self.ups:
            low, high = self.haar(low)
            bands.append(torch.cat([low, high.flatten(1, 2)], 1))
            sides.append(low.shape[2:])
        above: list[Tensor] = []
        for i in range(len(self.ups) - 1, -1, -1):
            y = self.ups[i](torch.cat([bands[i], *above], 1))
            above = [y[..., : sides[i][0], : sides[i][1]]]
        return above[0]


def up(cin: int, hidden: int, size: int, cout: int, dropout: float) -> nn.Module:
    """norm(transposed(fc2(drop(gelu(fc1(x)))))): to twice the size"""
    hidden, size = Width(hidden, "hidden"), Width(size, "inner")
    pair = dict(fc1=nn.Conv2d(cin, hidden, 1), act=GELU(), drop=nn.Dropout(dropout), fc2=nn.Conv2d(hidden, size, 1))
    return nn.Sequential(OrderedDict(**pair, conv=nn.ConvTranspose2d(size, cout, 4, 2, 1), norm=nn.BatchNorm2d(cout)))
