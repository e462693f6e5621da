"""ResNet-RS: ResNet-D with gates, trained and scaled as the best are. Bello et al., 2021, arXiv:2103.07579

The stem's pooling becomes a convolution, every block ends in squeeze-excitation to a quarter. Depth is scaled where
training is long, and the resolution slowly.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network
from ..blocks.residual import averaged
from ..layers import Conv, SqueezeExcite
from ..registry import UnsupportedArgument, about, family
from .resnet import DEEP, assemble, bottleneck
from .resnet_d import TIMM_D, deep

# The members of the paper's curve, each better and slower than the one before: depth, and pixels it is trained at.
CURVE = (
    (50, 160),
    (101, 160),
    (101, 192),
    (152, 192),
    (152, 224),
    (152, 256),
    (200, 256),
    (270, 256),
    (350, 256),
    (350, 320),
    (420, 320),
)


def scaled(step: int) -> tuple[int, int]:
    """(depth, resolution in pixels) of step 0, 1, ... along the paper's curve of speed against accuracy.

    Raises:
        UnsupportedArgument: a step that the curve does not have.
    """
    if not 0 <= step < len(CURVE):
        raise UnsupportedArgument(f"ResNet-RS is scaled in steps 0 to {len(CURVE) - 1}: there is no step {step}")
    return CURVE[step]


def squeeze(dim: int) -> nn.Module:
    return SqueezeExcite(dim, dim // 4)


def conv_pool(width: int) -> nn.Module:
    return Conv(width, width, 3, 2)


@family(
    about(
        title="Revisiting ResNets: Improved Training and Scaling Strategies",
        arxiv="2103.07579",
        licence="Apache-2.0",
        native=256,
        dilates=True,
    ),
    resnetrs50=dict(depths=(3, 4, 6, 3), native=160),
    resnetrs101=dict(depths=(3, 4, 23, 3), native=192),
    resnetrs152=dict(depths=(3, 8, 36, 3)),
    resnetrs200=dict(depths=(3, 24, 36, 3)),
    resnetrs270=dict(depths=(4, 29, 53, 4)),
    resnetrs350=dict(depths=(4, 36, 72, 4), native=288),
    resnetrs420=dict(depths=(4, 44, 87, 4), native=320),
)
def resnet_rs(
    depths: Sequence[int],
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    block = partial(bottleneck, project=averaged, gate=squeeze)
    return assemble(depths, DEEP, block, deep, pool=conv_pool, **more)


TIMM = (
    """
    maxpool.0                    -> backbone.stages.0.down.conv
    maxpool.1                    -> backbone.stages.0.down.norm
    layer{s}.{b}.se.fc1          -> backbone.stages.{s-1}.blocks.{b}.gate.reduce
    layer{s}.{b}.se.fc2          -> backbone.stages.{s-1}.blocks.{b}.gate.expand
"""
    + TIMM_D
)
