"""MobileNetV2: inverted residuals with linear bottlenecks. Sandler et al., 2018, arXiv:1801.04381

Wide depthwise convolutions between narrow 1x1 ones; no activation on the narrow side, which would lose information.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Classifier, Network
from ..blocks.inverted import Gate, Part, Row, inverted
from ..layers import Conv, relu6
from ..layers.init import initialise, kaiming_out
from ..registry import about, family, rounded
from ..width import Width

ROWS = [
    Row(1, 3, 1, 1, 16),
    Row(2, 3, 2, 6, 24),
    Row(3, 3, 2, 6, 32),
    Row(4, 3, 2, 6, 64),
    Row(3, 3, 1, 6, 96),
    Row(3, 3, 2, 6, 160),
    Row(1, 3, 1, 6, 320),
]


@family(
    about(
        title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
        arxiv="1801.04381",
        licence="Apache-2.0",
        dilates=True,
    ),
    mobilenetv2_035=dict(wide=0.35),
    mobilenetv2_050=dict(wide=0.5),
    mobilenetv2_075=dict(wide=0.75),
    mobilenetv2_100=dict(wide=1.0),
    mobilenetv2_140=dict(wide=1.4, last=1792),
    mobilenetv2_110d=dict(wide=1.1, deep=1.2, stem=32),
    mobilenetv2_120d=dict(wide=1.2, deep=1.4, stem=32),
)
def mobilenet_v2(
    wide: float = 1.0,
    deep: float = 1.0,
    stem: int | None = None,
    last: int = 1280,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`wide` and `deep` scale channels and depths; a given `stem` stays so wide, and the ends as deep as they are."""
    ends = (0, len(ROWS) - 1) if stem else ()
    rows = [row if i in ends else row.deeper(deep) for i, row in enumerate(ROWS)]
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    net = assemble(rows, wide, stem or rounded(32 * wide), last, part=partial(Conv, act=relu6), **more)
    initialise(net, conv=kaiming_out, linear=partial(nn.init.normal_, std=0.01))
    return net


def assemble(
    rows: Sequence[Row],
    wide: float,
    stem: int,
    last: int,
    part: Part,
    gate: Gate | None = None,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Stem, a stage of inverted residuals a row with channels scaled by `wide`, and a 1x1 to `last` channels."""
    backbone = inverted(rows, wide, stem, part, gate, in_chans, drop_path_rate)
    dim, head = backbone.widths[-1], Width(last, "head")
    return Network(backbone, Classifier(head, num_classes, before=part(dim, head, 1), drop=drop_rate))


TIMM = """
    conv_stem                   -> backbone.stem.conv
    bn1                         -> backbone.stem.norm
    blocks.0.{b}.conv_dw        -> backbone.stages.0.blocks.{b}.dwconv.conv
    blocks.0.{b}.bn1            -> backbone.stages.0.blocks.{b}.dwconv.norm
    blocks.0.{b}.conv_pw        -> backbone.stages.0.blocks.{b}.project.conv
    blocks.0.{b}.bn2            -> backbone.stages.0.blocks.{b}.project.norm
    blocks.{s}.{b}.conv_pw      -> backbone.stages.{s}.blocks.{b}.expand.conv
    blocks.{s}.{b}.bn1          -> backbone.stages.{s}.blocks.{b}.expand.norm
    blocks.{s}.{b}.conv_dw      -> backbone.stages.{s}.blocks.{b}.dwconv.conv
    blocks.{s}.{b}.bn2          -> backbone.stages.{s}.blocks.{b}.dwconv.norm
    blocks.{s}.{b}.conv_pwl     -> backbone.stages.{s}.blocks.{b}.project.conv
    blocks.{s}.{b}.bn3          -> backbone.stages.{s}.blocks.{b}.project.norm
    conv_head                   -> head.before.conv
    bn2                         -> head.before.norm
    classifier                  -> head.fc
"""

# torchvision numbers all blocks through: features.1 is the first one.
PLACES = [f"backbone.stages.{s}.blocks.{b}" for s, row in enumerate(ROWS) for b in range(row.depth)]
FIRST = {"0.0": "dwconv.conv", "0.1": "dwconv.norm", "1": "project.conv", "2": "project.norm"}
OTHERS = {
    "0.0": "expand.conv",
    "0.1": "expand.norm",
    "1.0": "dwconv.conv",
    "1.1": "dwconv.norm",
    "2": "project.conv",
    "3": "project.norm",
}
TORCHVISION = "\n".join(
    [
        "features.0.0 -> backbone.stem.conv",
        "features.0.1 -> backbone.stem.norm",
        *[
            f"features.{i}.conv.{theirs} -> {place}.{ours}"
            for i, place in enumerate(PLACES, 1)
            for theirs, ours in (FIRST if i == 1 else OTHERS).items()
        ],
        f"features.{len(PLACES) + 1}.0 -> head.before.conv",
        f"features.{len(PLACES) + 1}.1 -> head.before.norm",
        "classifier.1 -> head.fc",
    ]
)
