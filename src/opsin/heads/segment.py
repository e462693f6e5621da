"""A class for every pixel: heads on the maps of any backbone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Network
from ..layers.conv import Conv
from ..width import Concat, Width
from .fpn import FPN

resized = partial(F.interpolate, mode="bilinear", align_corners=False)


class Segmenter(nn.Module):
    """Images (B, C, H, W) to logits (B, K, H, W): what `head` says of the maps at `taps`, enlarged"""

    def __init__(self, network: Network, taps: Sequence[int], head: nn.Module):
        super().__init__()
        self.backbone: Any = network.backbone
        self.taps, self.head = tuple(taps), head

    def forward(self, x: Tensor) -> Tensor:
        return resized(self.head(self.backbone(x, self.taps).maps), x.shape[2:])


class LRASPP(nn.Module):
    """low(fine) + high(excite(deep) x project(deep)), enlarged (MobileNetV3, arXiv:1905.02244)"""

    def __init__(self, widths: Sequence[int], classes: int, dim: int = 128):
        super().__init__()
        fine, deep = widths
        dim = Width(dim, "lraspp")
        self.project = Conv(deep, dim, 1)
        self.excite = nn.Conv2d(deep, dim, 1, bias=False)
        self.low, self.high = nn.Conv2d(fine, classes, 1), nn.Conv2d(dim, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        fine, deep = maps
        x = self.project(deep) * self.excite(deep.mean((2, 3), keepdim=True)).sigmoid()
        return self.low(fine) + self.high(resized(x, fine.shape[2:]))


class ASPP(nn.Module):
    """project([conv1(x), atrous convolutions of x, conv1(mean of x)]) (DeepLabv3, arXiv:1706.05587)"""

    def __init__(self, cin: int, dim: int = 256, rates: Sequence[int] = (12, 24, 36), drop: float = 0.5):
        super().__init__()
        dim = Width(dim, "aspp")
        self.branches = nn.ModuleList([Conv(cin, dim, 1), *(atrous(cin, dim, rate) for rate in rates)])
        self.image = Conv(cin, dim, 1)
        self.project = Conv(Concat(*[dim] * (len(rates) + 2)), dim, 1)
        self.drop, self.width = nn.Dropout(drop), dim

    def forward(self, x: Tensor) -> Tensor:
        whole = self.image(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.drop(self.project(torch.cat([*(branch(x) for branch in self.branches), whole], 1)))


def atrous(cin: int, cout: int, rate: int) -> nn.Module:
    part = Conv(cin, cout, 3)
    part.conv.dilation, part.conv.padding = (rate, rate), (rate, rate)
    return part


class Deepest(nn.Sequential):
    """Layers on the last of the maps alone"""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        x = maps[-1]
        for part in self:
            x = part(x)
        return x


class SemanticFPN(nn.Module):
    """Levels of a pyramid brought to the finest one step by step, and added (Panoptic FPN, arXiv:1901.02446)"""

    def __init__(self, widths: Sequence[int], classes: int, dim: int = 128, pyramid: int = 256):
        super().__init__()
        dim = Width(dim, "semantic")
        self.neck = FPN(widths, pyramid)
        self.levels = nn.ModuleList(
            nn.ModuleList(Conv(dim if i else self.neck.widths[n], dim, norm=grouped) for i in range(max(1, n)))
            for n in range(len(widths))
        )
        self.last = nn.Conv2d(dim, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        levels = self.neck(maps)
        return self.last(torch.stack([self.risen(n, levels) for n in range(len(levels))]).sum(0))

    def risen(self, n: int, levels: Sequence[Tensor]) -> Tensor:
        """Level `n` at the size of the finest."""
        x = levels[n]
        for i, part in enumerate(cast(nn.ModuleList, self.levels[n])):
            x = part(x)
            x = resized(x, levels[n - 1 - i].shape[2:]) if n else x
        return x


def grouped(dim: int) -> nn.Module:
    return nn.GroupNorm(32 if dim % 32 == 0 else 1, dim)


def lraspp(network: Network, classes: int, taps: Sequence[int] = (-3, -1), dim: int = 128) -> Segmenter:
    """On any network: maps at stride 8 and 16 are meant (`output_stride=16`)."""
    return Segmenter(network, taps, LRASPP([network.backbone.widths[i] for i in taps], classes, dim))


def deeplabv3(network: Network, classes: int, rates: Sequence[int] = (12, 24, 36), dim: int = 256) -> Segmenter:
    """On any network, best one of `output_stride` 16 or 8; `rates=()` is the reduced form of MobileNetV2."""
    pyramid = ASPP(network.backbone.widths[-1], dim, rates)
    smooth = [Conv(pyramid.width, pyramid.width)] if rates else []
    return Segmenter(network, (-1,), Deepest(pyramid, *smooth, nn.Conv2d(pyramid.width, classes, 1)))


def semantic_fpn(network: Network, classes: int, taps: Sequence[int] = (-4, -3, -2, -1)) -> Segmenter:
    """On any network with maps at strides 4 to 32."""
    return Segmenter(network, taps, SemanticFPN([network.backbone.widths[i] for i in taps], classes))
