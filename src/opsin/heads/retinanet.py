"""RetinaNet: one pair of towers for all levels of a pyramid. Lin et al., 2017, arXiv:1708.02002"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..blocks import Network
from ..layers.init import initialise
from ..width import Groups, Width
from .detect import Detector, FocalLoss, flattened
from .fpn import FPN, Strided, conv3

SIZES = (32, 64, 128, 256, 512)
FORMS = 9  # anchors a place: three sizes within an octave, each in three ratios
RARE = 0.01  # what an untrained tower says of every class, for few anchors hold anything

Norm = Callable[[int], nn.Module]


def nothing(dim: int) -> nn.Module:
    return nn.Identity()


class Tower(nn.Module):
    """Four 3x3 convolutions and one that says `size` numbers for each of the anchors of a place"""

    def __init__(self, dim: int, size: int, depth: int = 4, norm: Norm = nothing):
        super().__init__()
        self.size = size
        self.convs = nn.Sequential(
            *(nn.Sequential(conv3(dim, dim), norm(dim), nn.ReLU(inplace=True)) for _ in range(depth))
        )
        self.last = conv3(dim, Groups(FORMS, size))
        initialise(self, conv=lambda weight: nn.init.normal_(weight, std=0.01))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        return flattened([self.last(self.convs(level)) for level in levels], self.size)


class RetinaHead(nn.Module):
    """Levels (B, C, H_i, W_i) to class logits (B, N, K) and codes of boxes (B, N, 4)"""

    def __init__(self, dim: int, classes: int, norm: Norm = nothing):
        super().__init__()
        self.classes = classes
        self.classify, self.box = Tower(dim, classes, norm=norm), Tower(dim, 4, norm=norm)
        assert self.classify.last.bias is not None
        nn.init.constant_(self.classify.last.bias, -math.log((1 - RARE) / RARE))

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return self.classify(levels), self.box(levels)


def sides(image: tuple[int, int]) -> list[list[tuple[float, float]]]:
    """Widths and heights of the anchors of each level."""
    octave = [2 ** (i / 3) for i in range(3)]
    return [[(s * o / r**0.5, s * o * r**0.5) for r in (0.5, 1, 2) for o in octave] for s in SIZES]


def retinanet(
    network: Network, classes: int, taps: Sequence[int] = (-3, -2, -1), dim: int = 256, norm: Norm = nothing
) -> Detector:
    """On any network with maps at strides 8, 16 and 32: a pyramid of five levels, nine anchors a place.

    Args:
        network: a `Network`; its backbone is used, not copied. taps: its maps at those strides.
    """
    dim = Width(dim, "pyramid")
    neck = FPN([network.backbone.widths[i] for i in taps], dim, len(SIZES), coarser=Strided)
    return Detector(network, taps, neck, RetinaHead(dim, classes, norm), sides, FocalLoss())
