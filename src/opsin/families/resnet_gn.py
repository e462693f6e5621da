"""ResNet with group normalisation, which does not care for the size of the batch. Wu & He, 2018, arXiv:1803.08494

Every norm has 32 groups of channels, so channels are dropped from all groups alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network
from ..layers import Conv
from ..registry import about, family
from ..width import Groups, Width, same
from .resnet import DEEP, TIMM, assemble, bottleneck

GROUPS = 32


def norm(width: int) -> nn.Module:
    return nn.GroupNorm(GROUPS, width)


part = partial(Conv, norm=norm)


def size(channels: int, name: str) -> int:
    """Channels of 32 groups."""
    return Groups(GROUPS, Width(channels // GROUPS, name))


def stem(cin: int, cout: int) -> nn.Module:
    return part(cin, cout, 7, 2)


def projected(cin: int, cout: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 and same(cin, cout) else part(cin, cout, 1, stride, act=None)


@family(
    about(title="Group Normalization", arxiv="1803.08494", licence="Apache-2.0", dilates=True),
    resnet50_gn=dict(depths=(3, 4, 6, 3)),
)
def resnet_gn(
    depths: Sequence[int],
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    block = partial(bottleneck, project=projected, part=part, size=size)
    return assemble(depths, DEEP, block, stem, size=size, **more)


__all__ = ["TIMM", "resnet_gn"]
