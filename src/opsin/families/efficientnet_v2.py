"""EfficientNetV2: dense convolutions early, where depthwise ones are slow. Tan & Le, 2021, arXiv:2104.00298

EfficientNet's blocks from the third resolution on; before, the 1x1 and the depthwise convolution are fused into one.
The `rw` forms are timm's own, `es`, `em` and `el` are EfficientNet-EdgeTPU, the first to fuse (Gupta & Tan, 2019):
neither gates nor SiLU, for integer accelerators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network
from ..blocks.inverted import Fused, Part, Plain, Row
from ..layers import Conv, SameConv2d, relu, silu
from ..registry import about, family, rounded
from .efficientnet import GATES, TENSORFLOW, initialise_by_groups, squeeze
from .mobilenet_v2 import TIMM as MOBILENET
from .mobilenet_v2 import assemble

STRIDES, RATIOS = (1, 2, 2, 2, 1, 2, 1), (1, 4, 4, 4, 6, 6, 6)
BLOCKS: tuple[dict[str, Any], ...] = (
    dict(block=Plain),
    *[dict(block=Fused)] * 2,
    *[dict(gate=squeeze)] * 4,
)


def table(depths: Sequence[int], dims: Sequence[int]) -> tuple[Row, ...]:
    return tuple(
        Row(depth, 3, stride, ratio, dim, **more)
        for depth, stride, ratio, dim, more in zip(depths, STRIDES, RATIOS, dims, BLOCKS)
    )


BASE = table((1, 2, 2, 3, 5, 8), (16, 32, 48, 96, 112, 192))
SMALL = table((2, 4, 4, 6, 9, 15), (24, 48, 64, 128, 160, 256))
MEDIUM = table((3, 5, 5, 7, 14, 18, 5), (24, 48, 80, 160, 176, 304, 512))
LARGE = table((4, 7, 7, 10, 19, 25, 7), (32, 64, 96, 192, 224, 384, 640))
HUGE = table((4, 8, 8, 16, 24, 32, 8), (32, 64, 96, 192, 256, 512, 640))
RW = (replace(SMALL[0], block=Fused), *SMALL[1:-1], replace(SMALL[-1], dim=272))
RW_MEDIUM = tuple(row.deeper(factor) for row, factor in zip(RW, (1.2,) * 4 + (1.6,) * 2))
EDGE = (
    Row(1, 3, 1, 4, 24, block=Fused, adds=False),
    Row(2, 3, 2, 8, 32, block=Fused),
    Row(4, 3, 2, 8, 48, block=Fused),
    Row(5, 5, 2, 8, 96),
    Row(4, 5, 1, 8, 144),
    Row(2, 5, 2, 8, 192),
)
edge_part = partial(Conv, act=relu)
tensorflow_edge = partial(Conv, act=relu, norm=partial(nn.BatchNorm2d, eps=1e-3), conv=SameConv2d)
EDGE_TITLE = "EfficientNet-EdgeTPU: Creating Accelerator-Optimized Neural Networks with AutoML"


def base(wide: float, deep: float, native: int) -> dict[str, Any]:
    rows = tuple(replace(row.deeper(deep), dim=rounded(row.dim * wide, floor=0.0)) for row in BASE)
    return dict(rows=rows, stem=rounded(32 * wide), last=rounded(1280 * wide), native=native, **TENSORFLOW)


def edge(wide: float, deep: float, native: int, part: Part = edge_part) -> dict[str, Any]:
    first, *rest = (row.deeper(deep) for row in EDGE)
    stem, dim = rounded(32 * wide), rounded(first.dim * wide)
    rows = (replace(first, ratio=(4 * dim / stem, *[4] * (first.depth - 1))), *rest)  # of what comes out, not in
    told = dict(title=EDGE_TITLE, arxiv=None, native=native)
    return dict(rows=rows, wide=wide, stem=stem, last=rounded(1280 * wide), part=part, **told)


@family(
    about(
        title="EfficientNetV2: Smaller Models and Faster Training",
        arxiv="2104.00298",
        licence="Apache-2.0",
        native=384,
        dilates=True,
    ),
    efficientnetv2_s=dict(rows=SMALL),
    efficientnetv2_m=dict(rows=MEDIUM, native=416),
    efficientnetv2_l=dict(rows=LARGE, native=480),
    efficientnetv2_xl=dict(rows=HUGE, native=512),
    efficientnetv2_rw_t=dict(rows=tuple(row.deeper(0.9) for row in SMALL), wide=0.8, last=1024, native=288),
    efficientnetv2_rw_s=dict(rows=RW, last=1792),
    efficientnetv2_rw_m=dict(rows=RW_MEDIUM, wide=1.2, last=2152, native=416),
    tf_efficientnetv2_s=dict(rows=SMALL, **TENSORFLOW),
    tf_efficientnetv2_m=dict(rows=MEDIUM, native=480, **TENSORFLOW),
    tf_efficientnetv2_l=dict(rows=LARGE, native=480, **TENSORFLOW),
    tf_efficientnetv2_xl=dict(rows=HUGE, native=512, **TENSORFLOW),
    tf_efficientnetv2_b0=base(1.0, 1.0, 224),
    tf_efficientnetv2_b1=base(1.0, 1.1, 240),
    tf_efficientnetv2_b2=base(1.1, 1.2, 260),
    tf_efficientnetv2_b3=base(1.2, 1.4, 300),
    efficientnet_es=edge(1.0, 1.0, 224),
    efficientnet_em=edge(1.0, 1.1, 240),
    efficientnet_el=edge(1.2, 1.4, 300),
    efficientnet_es_pruned=edge(1.0, 1.0, 224),
    efficientnet_el_pruned=edge(1.2, 1.4, 300),
    tf_efficientnet_es=edge(1.0, 1.0, 224, part=tensorflow_edge),
    tf_efficientnet_em=edge(1.0, 1.1, 240, part=tensorflow_edge),
    tf_efficientnet_el=edge(1.2, 1.4, 300, part=tensorflow_edge),
)
def efficientnet_v2(
    rows: Sequence[Row],
    wide: float = 1.0,
    stem: int | None = None,
    last: int = 1280,
    part: Part = partial(Conv, act=silu),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """The stem is as wide as the first row, unless told; `wide` scales the rows."""
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    net = assemble(rows, wide, stem or rounded(rows[0].dim * wide), last, part, None, **more)
    initialise_by_groups(net)
    return net


FUSED = """
    blocks.{s}.{b}.conv.weight -> backbone.stages.{s}.blocks.{b}.conv.conv.weight
    blocks.{s}.{b}.conv_exp    -> backbone.stages.{s}.blocks.{b}.expand.conv
"""
TIMM_FUSED = (
    FUSED
    + "".join(
        f"""
    blocks.{s}.{{b}}.bn1         -> backbone.stages.{s}.blocks.{{b}}.expand.norm
    blocks.{s}.{{b}}.bn2         -> backbone.stages.{s}.blocks.{{b}}.project.norm
"""
        for s in range(3)
    )
    + GATES
    + MOBILENET
)
TIMM_PLAIN = "blocks.0.{b}.bn1 -> backbone.stages.0.blocks.{b}.conv.norm\n" + TIMM_FUSED
