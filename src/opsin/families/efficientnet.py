"""EfficientNet: width, depth and resolution scaled together. Tan & Le, 2019, arXiv:1905.11946

MobileNetV2's blocks with squeeze-excitation and SiLU. The Lite forms drop the gates and use ReLU6, so that they
quantise well. Names in `tf_` pad as TensorFlow does, as the authors' checkpoints need.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network
from ..blocks.inverted import Row
from ..layers import Conv, SameConv2d, SqueezeExcite, relu6, silu
from ..registry import about, family, rounded
from .mobilenet_v2 import TIMM as MOBILENET
from .mobilenet_v2 import assemble

ROWS = [
    Row(1, 3, 1, 1, 16),
    Row(2, 3, 2, 6, 24),
    Row(2, 5, 2, 6, 40),
    Row(3, 3, 2, 6, 80),
    Row(3, 5, 1, 6, 112),
    Row(4, 5, 2, 6, 192),
    Row(1, 3, 1, 6, 320),
]
SIZES = {  # width, depth, pixels
    "b0": (1.0, 1.0, 224),
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 300),
    "b4": (1.4, 1.8, 380),
    "b5": (1.6, 2.2, 456),
    "b6": (1.8, 2.6, 528),
    "b7": (2.0, 3.1, 600),
    "b8": (2.2, 3.6, 672),
    "l2": (4.3, 5.3, 800),
}
LITE = {
    "lite0": (1.0, 1.0, 224),
    "lite1": (1.0, 1.1, 240),
    "lite2": (1.1, 1.2, 260),
    "lite3": (1.2, 1.4, 280),
    "lite4": (1.4, 1.8, 300),
}
TENSORFLOW = dict(part=partial(Conv, act=silu, norm=partial(nn.BatchNorm2d, eps=1e-3), conv=SameConv2d))
TENSORFLOW_LITE = dict(part=partial(Conv, act=relu6, norm=partial(nn.BatchNorm2d, eps=1e-3), conv=SameConv2d))


def compound(phi: float, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15) -> tuple[float, float, int]:
    """Width, depth and pixels of EfficientNet-B0 scaled by `phi`: beta^phi, alpha^phi and 224 gamma^phi, as in SIZES.

    alpha beta^2 gamma^2 is about 2, so that each step of `phi` doubles the cost. The published sizes follow the rule
    with phi = 0.5, 1, 2, 3, ... 6 for B1 to B7, but were then set by hand, up to 18% larger.
    """
    return beta**phi, alpha**phi, round(224 * gamma**phi)


def squeeze(hidden: int, cin: int) -> nn.Module:
    """Gates a quarter as wide as the block's input."""
    return SqueezeExcite(hidden, cin // 4, silu)


def variants(sizes: dict[str, tuple[float, float, int]], prefix: str, **more: Any) -> dict[str, dict[str, Any]]:
    return {f"{prefix}{k}": dict(wide=w, deep=d, native=px, **more) for k, (w, d, px) in sizes.items()}


PAPER = about(
    title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    arxiv="1905.11946",
    licence="Apache-2.0",
    dilates=True,
)


@family(
    PAPER,
    **variants(SIZES, "efficientnet_"),
    **variants(SIZES, "tf_efficientnet_", **TENSORFLOW),
)
def efficientnet(
    wide: float,
    deep: float,
    part: Callable[..., nn.Module] = partial(Conv, act=silu),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    rows = [row.deeper(deep) for row in ROWS]
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    net = assemble(rows, wide, rounded(32 * wide), rounded(1280 * wide), part, squeeze, **more)
    initialise_by_groups(net)
    return net


@family(
    PAPER,
    **variants(LITE, "efficientnet_"),
    **variants(LITE, "tf_efficientnet_", **TENSORFLOW_LITE),
)
def efficientnet_lite(
    wide: float,
    deep: float,
    part: Callable[..., nn.Module] = partial(Conv, act=relu6),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """The stem, the last 1x1 and the depths of the first and last stage are not scaled."""
    rows = [ROWS[0], *[row.deeper(deep) for row in ROWS[1:-1]], ROWS[-1]]
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    net = assemble(rows, wide, 32, 1280, part, **more)
    initialise_by_groups(net)
    return net


def initialise_by_groups(net: nn.Module) -> None:
    """The authors': convolutions by the output channels of one group, the classifier uniform by its classes."""
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.normal_(m.weight, std=math.sqrt(2 / (math.prod(m.kernel_size) * m.out_channels // m.groups)))
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Linear):
            bound = 1 / math.sqrt(m.out_features)
            nn.init.uniform_(m.weight, -bound, bound)
            nn.init.zeros_(m.bias)


GATES = """
    blocks.{s}.{b}.se.conv_reduce -> backbone.stages.{s}.blocks.{b}.gate.reduce
    blocks.{s}.{b}.se.conv_expand -> backbone.stages.{s}.blocks.{b}.gate.expand
"""
TIMM = GATES + MOBILENET
