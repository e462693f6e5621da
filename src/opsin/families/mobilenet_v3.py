"""MobileNetV3: MobileNetV2 with gates and hard-swish, in searched numbers. Howard et al., 2019, arXiv:1905.02244

Early rows keep ReLU; the last 1x1 convolution stands behind the pooling, where it is cheap. The minimal forms have no
gates, 3x3 kernels and ReLU alone. Names in `tf_` pad as TensorFlow does, as the authors' checkpoints need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from torch import nn

from ..blocks import Classifier, Network
from ..blocks.inverted import Gate, Part, Row, inverted
from ..layers import Conv, SameConv2d, SqueezeExcite, hard_swish, relu
from ..layers.conv import Act
from ..layers.init import initialise, kaiming_out
from ..registry import about, family, rounded
from ..width import Width
from .mobilenet_v2 import TIMM as MOBILENET


def squeeze(hidden: int, cin: int) -> nn.Module:
    return SqueezeExcite(hidden, rounded(hidden / 4), relu, nn.Hardsigmoid)


def squeeze_rw(hidden: int, cin: int, act: Act = relu) -> nn.Module:
    return SqueezeExcite(hidden, hidden // 4, act, nn.Hardsigmoid)


def pointwise(
    cin: int, cout: int, kernel: int, stride: int, ratio: float, drop: float, part: Part, gate: Gate | None
) -> nn.Module:
    """The 1x1 convolution behind the last block."""
    return part(cin, cout, kernel, stride)


LARGE = (
    Row(1, 3, 1, 1, 16, relu),
    Row(2, 3, 2, (4, 3), 24, relu),
    Row(3, 5, 2, 3, 40, relu, squeeze),
    Row(4, 3, 2, (6, 2.5, 2.3, 2.3), 80),
    Row(2, 3, 1, 6, 112, gate=squeeze),
    Row(3, 5, 2, 6, 160, gate=squeeze),
    Row(1, 1, 1, 1, 960, block=pointwise),
)
SMALL = (
    Row(1, 3, 2, 1, 16, relu, squeeze),
    Row(2, 3, 2, (4.5, 3.67), 24, relu),
    Row(3, 5, 2, (4, 6, 6), 40, gate=squeeze),
    Row(2, 5, 1, 3, 48, gate=squeeze),
    Row(3, 5, 2, 6, 96, gate=squeeze),
    Row(1, 1, 1, 1, 576, block=pointwise),
)
DEEP = tuple(
    replace(row.deeper(1.2), ratio={1: (4, 3, 3), 3: (6, 2.5, 2.5, 2.3, 2.3)}.get(i, row.ratio))
    for i, row in enumerate(LARGE)
)
RW = tuple(
    replace(row, adds=i > 0, gate=partial(squeeze_rw, act=row.act or hard_swish) if row.gate else None)
    for i, row in enumerate(LARGE)
)
TENSORFLOW = dict(part=partial(Conv, act=hard_swish, norm=partial(nn.BatchNorm2d, eps=1e-3), conv=SameConv2d))
MINIMAL = dict(part=partial(Conv, act=relu, norm=partial(nn.BatchNorm2d, eps=1e-3), conv=SameConv2d), act=nn.ReLU)


def minimal(rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(replace(row, kernel=min(row.kernel, 3), act=relu, gate=None) for row in rows)


@family(
    about(title="Searching for MobileNetV3", arxiv="1905.02244", licence="Apache-2.0", dilates=True),
    mobilenetv3_large_075=dict(rows=LARGE, wide=0.75),
    mobilenetv3_large_100=dict(rows=LARGE),
    mobilenetv3_large_150d=dict(rows=DEEP, wide=1.5, native=256),
    mobilenetv3_small_050=dict(rows=SMALL, wide=0.5, last=1024),
    mobilenetv3_small_075=dict(rows=SMALL, wide=0.75, last=1024),
    mobilenetv3_small_100=dict(rows=SMALL, last=1024),
    mobilenetv3_rw=dict(
        rows=RW, part=partial(Conv, act=hard_swish, norm=partial(nn.BatchNorm2d, eps=1e-3)), bias=False
    ),
    tf_mobilenetv3_large_075=dict(rows=LARGE, wide=0.75, **TENSORFLOW),
    tf_mobilenetv3_large_100=dict(rows=LARGE, **TENSORFLOW),
    tf_mobilenetv3_large_minimal_100=dict(rows=minimal(LARGE), **MINIMAL),
    tf_mobilenetv3_small_075=dict(rows=SMALL, wide=0.75, last=1024, **TENSORFLOW),
    tf_mobilenetv3_small_100=dict(rows=SMALL, last=1024, **TENSORFLOW),
    tf_mobilenetv3_small_minimal_100=dict(rows=minimal(SMALL), last=1024, **MINIMAL),
)
def mobilenet_v3(
    rows: Sequence[Row],
    wide: float = 1.0,
    last: int = 1280,
    part: Part = partial(Conv, act=hard_swish),
    act: Act = nn.Hardswish,
    bias: bool = True,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`last`, `act` and `bias` are of the layer between pooling and classifier."""
    backbone = inverted(rows, wide, max(16, rounded(16 * wide)), part, None, in_chans, drop_path_rate)
    hidden = Width(last, "head")
    after = nn.Sequential(nn.Linear(backbone.widths[-1], hidden, bias), act())
    net = Network(backbone, Classifier(hidden, num_classes, after=after, drop=drop_rate))
    initialise(net, conv=kaiming_out, linear=partial(nn.init.normal_, std=0.01))
    return net


# The last 1x1 convolution of the blocks is a stage of its own; TIMM's rules for other stages stand in MobileNetV2.
TIMM = (
    """
    blocks.{s}.{b}.se.conv_reduce -> backbone.stages.{s}.blocks.{b}.gate.reduce
    blocks.{s}.{b}.se.conv_expand -> backbone.stages.{s}.blocks.{b}.gate.expand
    blocks.{s}.{b}.conv.weight    -> backbone.stages.{s}.blocks.{b}.conv.weight
    blocks.LAST.{b}.bn1           -> backbone.stages.LAST.blocks.{b}.norm
    conv_head                     -> head.after.0
"""
    + MOBILENET
)
TIMM_LARGE, TIMM_SMALL = TIMM.replace("LAST", "6"), TIMM.replace("LAST", "5")
