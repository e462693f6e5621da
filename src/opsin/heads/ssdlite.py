"""SSDLite: SSD of separable convolutions. Sandler et al., 2018, arXiv:1801.04381; Liu et al., 2015, arXiv:1512.02325"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from ..blocks import Network
from ..layers.conv import Conv, relu6
from ..layers.init import initialise
from ..width import Groups, Width
from .detect import Detector, MultiBoxLoss, flattened

EXTRA = (512, 256, 256, 128)
RATIOS = (2, 3)
FORMS = 2 + 2 * len(RATIOS)  # anchors a place
SCALES = (0.2, 0.95)  # of the image: the anchors of the finest and of the coarsest level

norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)
Part = partial(Conv, act=relu6, norm=norm)


class Extras(nn.Module):
    """The maps and further ones, each half as fine as the one before"""

    def __init__(self, widths: Sequence[int], dims: Sequence[int] = EXTRA):
        super().__init__()
        dims = [Width(dim, f"level{i}") for i, dim in enumerate(dims)]
        inner = [Width(dim // 2, f"inner{i}") for i, dim in enumerate(dims)]
        self.blocks = nn.ModuleList(
            nn.Sequential(Part(cin, mid, 1), Part(mid, mid, 3, 2, groups=mid), Part(mid, dim, 1))
            for cin, mid, dim in zip([widths[-1], *dims], inner, dims)
        )
        self.widths = [*widths, *dims]
        initialise(self, conv=partial(nn.init.normal_, std=0.03))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        out = list(maps)
        for block in self.blocks:
            out.append(block(out[-1]))
        return out


def tower(dim: int, size: int) -> nn.Module:
    return nn.Sequential(Part(dim, dim, 3, groups=dim), nn.Conv2d(dim, Groups(FORMS, size), 1))


class SSDLiteHead(nn.Module):
    """Levels (B, C_i, H_i, W_i) to logits (B, N, 1 + K), the first for nothing, and codes of boxes (B, N, 4)"""

    def __init__(self, widths: Sequence[int], classes: int):
        super().__init__()
        self.classes = classes
        self.classify = nn.ModuleList(tower(dim, classes + 1) for dim in widths)
        self.box = nn.ModuleList(tower(dim, 4) for dim in widths)
        initialise(self, conv=partial(nn.init.normal_, std=0.03))

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        logits, codes = ([m(level) for m, level in zip(part, levels)] for part in (self.classify, self.box))
        return flattened(logits, self.classes + 1), flattened(codes, 4)


def sides(image: tuple[int, int], levels: int) -> list[list[tuple[float, float]]]:
    """Widths and heights of a level's anchors: squares of its scale and of one towards the next, and flat ones."""
    low, high = SCALES
    scales = [*(low + (high - low) * i / (levels - 1) for i in range(levels)), 1.0]
    out = []
    for this, following in itertools.pairwise(scales):
        square, between = (this, this), ((this * following) ** 0.5,) * 2
        flat = [form for r in RATIOS for form in ((this * r**0.5, this / r**0.5), (this / r**0.5, this * r**0.5))]
        out.append([(min(1, w) * image[1], min(1, h) * image[0]) for w, h in (square, between, *flat)])
    return out


def ssdlite(network: Network, classes: int, taps: Sequence[int] = (-2, -1), extra: Sequence[int] = EXTRA) -> Detector:
    """On any network with maps at strides 16 and 32: four further levels, six anchors a place.

    Args:
        network: a `Network`; its backbone is used, not copied. taps: its maps at those strides.
    """
    neck = Extras([network.backbone.widths[i] for i in taps], extra)
    head = SSDLiteHead(neck.widths, classes)
    return Detector(network, taps, neck, head, partial(sides, levels=len(neck.widths)), MultiBoxLoss())
