"""ECA-Net: a gate that sees neighbouring channels, in a handful of weights. Wang et al., 2019, arXiv:1910.03151

Where squeeze-excitation narrows the pooled channels, a convolution of 3 to 7 taps runs along them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network
from ..blocks.residual import averaged
from ..layers import Conv, NeighbourGate, relu6
from ..layers.init import initialise, kaiming_out
from ..registry import about, family
from .mobilenet_v2 import ROWS
from .mobilenet_v2 import TIMM as MOBILENET
from .mobilenet_v2 import assemble as mobilenet
from .resnet import DEEP, assemble, basic, bottleneck, seven
from .resnet import TIMM as RESNET
from .resnet_d import AVERAGED, SHALLOW, STEM, deep

ECA = partial(bottleneck, gate=NeighbourGate)
ECA_D = partial(ECA, project=averaged)
BASIC = partial(basic, gate=NeighbourGate)
D = dict(block=ECA_D, stem=deep)
T = dict(block=ECA_D, stem=partial(deep, a=24))
XT = dict(block=partial(ECA_D, groups=32, base=128), stem=partial(deep, a=24))
PAPER = about(
    title="ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
    arxiv="1910.03151",
    licence="MIT",
    dilates=True,
)


@family(
    PAPER,
    eca_resnet18=dict(depths=(2, 2, 2, 2), dims=SHALLOW, block=BASIC),
    eca_resnet34=dict(depths=(3, 4, 6, 3), dims=SHALLOW, block=BASIC),
    eca_resnet50=dict(depths=(3, 4, 6, 3)),
    eca_resnet101=dict(depths=(3, 4, 23, 3)),
    eca_resnet152=dict(depths=(3, 8, 36, 3)),
    ecaresnet26t=dict(depths=(2, 2, 2, 2), native=256, **T),
    ecaresnet50t=dict(depths=(3, 4, 6, 3), native=256, **T),
    ecaresnet50d=dict(depths=(3, 4, 6, 3), **D),
    ecaresnet101d=dict(depths=(3, 4, 23, 3), **D),
    ecaresnet200d=dict(depths=(3, 24, 36, 3), native=256, **D),
    ecaresnet269d=dict(depths=(3, 30, 48, 8), native=320, **D),
    ecaresnetlight=dict(depths=(1, 1, 11, 3), block=ECA_D),
    ecaresnext26t_32x4d=dict(depths=(2, 2, 2, 2), **XT),
    ecaresnext50t_32x4d=dict(depths=(3, 4, 6, 3), **XT),
)
def ecanet(
    depths: Sequence[int],
    dims: Sequence[int] = DEEP,
    block: Callable[..., nn.Module] = ECA,
    stem: Callable[[int, int], nn.Module] = seven,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    return assemble(depths, dims, block, stem, **more)


def gate(hidden: int, cin: int) -> nn.Module:
    return NeighbourGate(hidden)


@family(PAPER, eca_mobilenet_v2=dict())
def eca_mobilenet(
    num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0, drop_path_rate: float = 0.0
) -> Network:
    """The gate stands behind the depthwise convolution."""
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    net = mobilenet(ROWS, 1.0, 32, 1280, partial(Conv, act=relu6), gate, **more)
    initialise(net, conv=kaiming_out, linear=partial(nn.init.normal_, std=0.01))
    return net


GATES = """
    layer{s}.{b}.se.conv         -> backbone.stages.{s-1}.blocks.{b}.gate.conv
    blocks.{s}.{b}.se.conv       -> backbone.stages.{s}.blocks.{b}.gate.conv
"""
TIMM_D, TIMM_LIGHT, TIMM_PLAIN = GATES + STEM + AVERAGED + RESNET, GATES + AVERAGED + RESNET, GATES + RESNET
TIMM_MOBILENET = GATES + MOBILENET
