"""CondConv in EfficientNet: the late blocks mix their kernels for each image. Yang et al., 2019, arXiv:1904.04971

More capacity for nearly the same cost: experts are mixed once an image, not run side by side. A block has one routing,
by its input, for its three convolutions.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..blocks import Network
from ..blocks.inverted import Gate, Inverted, Part
from ..layers import Conv, SameConv2d, silu
from ..layers.condconv import CondConv2d, Routing
from ..registry import about, family
from ..width import Width
from .efficientnet import ROWS, TENSORFLOW, initialise_by_groups, squeeze
from .efficientnet import TIMM as EFFICIENTNET
from .mobilenet_v2 import assemble


class CondPart(nn.Module):
    """The given convolution, norm and activation with experts: act(norm(conv(x, routing)))"""

    def __init__(self, part: Any, experts: int):
        super().__init__()
        like = part.conv
        size, stride, tensorflow = like.kernel_size[0], like.stride[0], isinstance(like, SameConv2d)
        self.conv = CondConv2d(like.in_channels, like.out_channels, size, experts, stride, like.groups, tensorflow)
        self.norm, self.act = part.norm, getattr(part, "act", nn.Identity())

    def forward(self, x: Tensor, routing: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x, routing)))


class CondInverted(nn.Module):
    """The given inverted residual with experts, all its kernels mixed by routing(x)"""

    def __init__(self, block: Inverted, cin: int, experts: int):
        super().__init__()
        experts = Width(experts, "experts")
        self.routing = Routing(cin, experts)
        self.expand, self.dwconv, self.project = (
            CondPart(part, experts) for part in (block.expand, block.dwconv, block.project)
        )
        self.gate, self.drop, self.residual = block.gate, block.drop, block.residual

    def forward(self, x: Tensor) -> Tensor:
        routing = self.routing(x)
        y = self.gate(self.dwconv(self.expand(x, routing), routing))
        y = self.project(y, routing)
        return x + self.drop(y) if self.residual else y


def conditional(
    cin: int,
    cout: int,
    kernel: int,
    stride: int,
    ratio: float,
    drop: float,
    part: Part,
    gate: Gate | None,
    experts: int = 4,
) -> nn.Module:
    return CondInverted(Inverted(cin, cout, kernel, stride, ratio, drop, part, gate), cin, experts)


@family(
    about(
        title="CondConv: Conditionally Parameterized Convolutions for Efficient Inference",
        arxiv="1904.04971",
        licence="Apache-2.0",
    ),
    efficientnet_cc_b0_4e=dict(),
    efficientnet_cc_b0_8e=dict(experts=8),
    efficientnet_cc_b1_8e=dict(experts=8, deep=1.1, native=240),
    tf_efficientnet_cc_b0_4e=dict(**TENSORFLOW),
    tf_efficientnet_cc_b0_8e=dict(experts=8, **TENSORFLOW),
    tf_efficientnet_cc_b1_8e=dict(experts=8, deep=1.1, native=240, **TENSORFLOW),
)
def condconv(
    experts: int = 4,
    deep: float = 1.0,
    part: Part = partial(Conv, act=silu),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """EfficientNet whose last three rows have `experts`."""
    block = partial(conditional, experts=experts)
    rows = [row.deeper(deep) if i < 4 else replace(row.deeper(deep), block=block) for i, row in enumerate(ROWS)]
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    net = assemble(rows, 1.0, 32, 1280, part, squeeze, **more)
    initialise_by_groups(net)
    return net


TIMM = (
    """
    blocks.{s}.{b}.routing_fn -> backbone.stages.{s}.blocks.{b}.routing
"""
    + EFFICIENTNET
)
