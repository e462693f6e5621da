"""Inception-v3: large kernels factorised into small and thin ones. Szegedy et al., 2015, arXiv:1512.00567

Modules of parallel branches; 7x7 becomes 1x7 and 7x1, and resolution is halved by branches that keep what a pooling
would lose. The auxiliary classifier on the last 17x17 map regularises training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Features, Network, Pyramid, Stage
from ..blocks.branches import Branches, Row, Then
from ..layers.init import initialise
from ..registry import about, family


def average() -> nn.Module:
    return nn.AvgPool2d(3, 1, 1)


def squares(cin: int, pooled: int) -> Branches:
    """1x1 | 1x1, 5x5 | 1x1, 3x3, 3x3 | mean, 1x1 (the paper's figure 5)"""
    return Branches(
        Row(cin, (64, 1)),
        Row(cin, (48, 1), (64, 5)),
        Row(cin, (64, 1), (96, 3), (96, 3)),
        Row(cin, (pooled, 1), pool=average()),
    )


def lines(cin: int, c: int) -> Branches:
    """1x1 | 1x1, 1x7, 7x1 | 1x1 and twice 7x1, 1x7 | mean, 1x1 (figure 6)"""
    return Branches(
        Row(cin, (192, 1)),
        Row(cin, (c, 1), (c, (1, 7)), (192, (7, 1))),
        Row(cin, (c, 1), (c, (7, 1)), (c, (1, 7)), (c, (7, 1)), (192, (1, 7))),
        Row(cin, (192, 1), pool=average()),
    )


def cross(cin: int) -> Branches:
    """1x3 beside 3x1"""
    return Branches(Row(cin, (384, (1, 3))), Row(cin, (384, (3, 1))))


def crosses(cin: int) -> Branches:
    """1x1 | 1x1, then 1x3 beside 3x1 | 1x1, 3x3, then the same | mean, 1x1 (figure 7)"""
    short, long = Row(cin, (384, 1)), Row(cin, (448, 1), (384, 3))
    return Branches(
        Row(cin, (320, 1)),
        Then(short, cross(short.width)),
        Then(long, cross(long.width)),
        Row(cin, (192, 1), pool=average()),
    )


def halve_squares(cin: int) -> Branches:
    return Branches(
        Row(cin, (384, 3, 2, 0)),
        Row(cin, (64, 1), (96, 3), (96, 3, 2, 0)),
        Row(cin, pool=nn.MaxPool2d(3, 2)),
    )


def halve_lines(cin: int) -> Branches:
    return Branches(
        Row(cin, (192, 1), (320, 3, 2, 0)),
        Row(cin, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, 0)),
        Row(cin, pool=nn.MaxPool2d(3, 2)),
    )


class Auxiliary(nn.Module):
    """fc(mean(conv(squeeze(mean of 5x5 at stride 3)))), for maps of the 17x17 resolution; smaller ones are resampled"""

    def __init__(self, cin: int, num_classes: int):
        super().__init__()
        self.convs = Row(cin, (128, 1), (768, 5, 1, 0))
        self.width = self.convs.width
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        self.fc = nn.Linear(self.width, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 5, 3) if min(x.shape[-2:]) >= 17 else F.adaptive_avg_pool2d(x, 5)
        return self.fc(self.convs(x).mean((2, 3)))


class Supervised(Classifier):
    """In training [logits, auxiliary logits], where the auxiliary head reads the last map but one"""

    taps = (-2, -1)

    def __init__(self, cin: int, middle: int, num_classes: int, drop: float = 0.0):
        super().__init__(cin, num_classes, drop=drop)
        self.auxiliary = Auxiliary(middle, num_classes)

    def forward(self, features: Features) -> Tensor | list[Tensor]:  # type: ignore[override]  # as training wants it
        logits = super().forward(features)
        return [logits, self.auxiliary(features.maps[0])] if self.training else logits

    def reset(self, num_classes: int) -> None:
        super().reset(num_classes)
        self.auxiliary.reset(num_classes)


def stage(down: nn.Module, width: int, *blocks: Callable[[int], Branches]) -> tuple[Stage, int]:
    """A stage of modules, each reading what the one before made, and the width of the last."""
    made = []
    for block in blocks:
        made.append(block(width))
        width = made[-1].width
    return Stage(made, down), width


@family(
    about(
        title="Rethinking the Inception Architecture for Computer Vision",
        arxiv="1512.00567",
        licence="Apache-2.0",
        native=299,
    ),
    inception_v3=dict(),
)
def inception_v3(
    auxiliary: bool = False, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0
) -> Network:
    """`auxiliary` adds the training head."""
    stem = Row(in_chans, (32, 3, 2, 0), (32, 3, 1, 0), (64, 3))
    entry = Row(stem.width, (80, 1), (192, 3, 1, 0))
    at8, c8 = stage(nn.MaxPool2d(3, 2), entry.width, *[partial(squares, pooled=p) for p in (32, 64, 64)])
    down16 = halve_squares(c8)
    at16, c16 = stage(down16, down16.width, *[partial(lines, c=c) for c in (128, 160, 160, 192)])
    down32 = halve_lines(c16)
    at32, c32 = stage(down32, down32.width, partial(crosses), partial(crosses))
    stages = [Stage(entry, nn.MaxPool2d(3, 2)), at8, at16, at32]
    backbone = Pyramid(stem, stages, [stem.width, entry.width, c8, c16, c32], [2, 4, 8, 16, 32])
    plain = Classifier(c32, num_classes, drop=drop_rate)
    net = Network(backbone, Supervised(c32, c16, num_classes, drop_rate) if auxiliary else plain)
    initialise(net, conv=partial(nn.init.trunc_normal_, std=0.1), linear=partial(nn.init.trunc_normal_, std=0.1))
    return net


# Where each published module stands, and the convolutions of its kind: published name -> place in our branches.
STEM = {
    "Conv2d_1a_3x3": "stem.0",
    "Conv2d_2a_3x3": "stem.1",
    "Conv2d_2b_3x3": "stem.2",
    "Conv2d_3b_1x1": "stages.0.blocks.0",
    "Conv2d_4a_3x3": "stages.0.blocks.1",
}
ENDS = {"branch1x1": "0.0", "branch_pool": "3.0"}
DOUBLE = {f"branch3x3dbl_{i}": f"2.{i - 1}" for i in (1, 2, 3)}
SQUARES = ENDS | DOUBLE | {f"branch5x5_{i}": f"1.{i - 1}" for i in (1, 2)}
SEVENS = {f"branch7x7_{i}": f"1.{i - 1}" for i in (1, 2, 3)}
LINES = ENDS | SEVENS | {f"branch7x7dbl_{i}": f"2.{i - 1}" for i in range(1, 6)}
PAIR = {"branch3x3_1": "1.first.0", "branch3x3dbl_1": "2.first.0", "branch3x3dbl_2": "2.first.1"}
ARMS = {"branch3x3_2": "1.last.branches.", "branch3x3dbl_3": "2.last.branches."}
CROSSES = ENDS | PAIR | {f"{k}{arm}": f"{v}{i}.0" for k, v in ARMS.items() for i, arm in enumerate("ab")}
HALF_SQUARES = {"branch3x3": "0.0", **{f"branch3x3dbl_{i}": f"1.{i - 1}" for i in (1, 2, 3)}}
HALF_LINES = {f"branch3x3_{i}": f"0.{i - 1}" for i in (1, 2)} | {f"branch7x7x3_{i}": f"1.{i - 1}" for i in range(1, 5)}
MODULES = {
    **{f"Mixed_5{x}": (f"stages.1.blocks.{i}", SQUARES) for i, x in enumerate("bcd")},
    "Mixed_6a": ("stages.2.down", HALF_SQUARES),
    **{f"Mixed_6{x}": (f"stages.2.blocks.{i}", LINES) for i, x in enumerate("bcde")},
    "Mixed_7a": ("stages.3.down", HALF_LINES),
    **{f"Mixed_7{x}": (f"stages.3.blocks.{i}", CROSSES) for i, x in enumerate("bc")},
}
CONVS = {theirs: f"backbone.{ours}" for theirs, ours in STEM.items()} | {
    f"{name}.{theirs}": f"backbone.{place}.branches.{ours}"
    for name, (place, inside) in MODULES.items()
    for theirs, ours in inside.items()
}
CONVS |= {f"AuxLogits.conv{i}": f"head.auxiliary.convs.{i}" for i in (0, 1)}
PUBLISHED = "\n".join(
    f"{theirs}.{old} -> {ours}.{new}"
    for theirs, ours in CONVS.items()
    for old, new in (("conv", "conv"), ("bn", "norm"))
)
PUBLISHED += "\nAuxLogits.fc -> head.auxiliary.fc\nfc -> head.fc"
