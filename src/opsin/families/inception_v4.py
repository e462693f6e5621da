"""Inception-v4: the modules of v3, more of them and more alike. Szegedy et al., 2016, arXiv:1602.07261"""

from __future__ import annotations

from functools import partial

from torch import nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..blocks.branches import Branches, Row, Then
from ..layers.init import initialise
from ..registry import about, family
from .inception_v3 import stage


def average() -> nn.Module:
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


def largest(cin: int) -> Row:
    return Row(cin, pool=nn.MaxPool2d(3, 2))


def squares(cin: int) -> Branches:
    """1x1 | 1x1, 3x3 | 1x1, 3x3, 3x3 | mean, 1x1 (the paper's Inception-A)"""
    return Branches(
        Row(cin, (96, 1)),
        Row(cin, (64, 1), (96, 3)),
        Row(cin, (64, 1), (96, 3), (96, 3)),
        Row(cin, (96, 1), pool=average()),
    )


def lines(cin: int) -> Branches:
    """1x1 | 1x1, 1x7, 7x1 | 1x1 and twice 7x1, 1x7 | mean, 1x1 (Inception-B)"""
    return Branches(
        Row(cin, (384, 1)),
        Row(cin, (192, 1), (224, (1, 7)), (256, (7, 1))),
        Row(cin, (192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))),
        Row(cin, (128, 1), pool=average()),
    )


def cross(cin: int) -> Branches:
    """1x3 beside 3x1"""
    return Branches(Row(cin, (256, (1, 3))), Row(cin, (256, (3, 1))))


def crosses(cin: int) -> Branches:
    """1x1 | 1x1, then 1x3 beside 3x1 | 1x1, 3x1, 1x3, then the same | mean, 1x1 (Inception-C)"""
    short, long = Row(cin, (384, 1)), Row(cin, (384, 1), (448, (3, 1)), (512, (1, 3)))
    return Branches(
        Row(cin, (256, 1)),
        Then(short, cross(short.width)),
        Then(long, cross(long.width)),
        Row(cin, (256, 1), pool=average()),
    )


def halve_squares(cin: int, k: int, l_: int, m: int, n: int) -> Branches:
    """The paper's Reduction-A, in its letters"""
    return Branches(Row(cin, (n, 3, 2, 0)), Row(cin, (k, 1), (l_, 3), (m, 3, 2, 0)), largest(cin))


def halve_lines(cin: int) -> Branches:
    return Branches(
        Row(cin, (192, 1), (192, 3, 2, 0)),
        Row(cin, (256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3, 2, 0)),
        largest(cin),
    )


PAPER = about(
    title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
    arxiv="1602.07261",
    licence="Apache-2.0",
    native=299,
)


@family(PAPER, inception_v4=dict(depths=(4, 7, 3)))
def inception_v4(
    depths: tuple[int, int, int], num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0
) -> Network:
    stem = Row(in_chans, (32, 3, 2, 0), (32, 3, 1, 0), (64, 3))
    down4 = Branches(largest(stem.width), Row(stem.width, (96, 3, 2, 0)))
    c4 = down4.width
    mixed = Branches(Row(c4, (64, 1), (96, 3, 1, 0)), Row(c4, (64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3, 1, 0)))
    down8 = Then(mixed, Branches(Row(mixed.width, (192, 3, 2, 0)), largest(mixed.width)))
    at8, c8 = stage(down8, down8.width, *[partial(squares)] * depths[0])
    down16 = halve_squares(c8, 192, 224, 256, 384)
    at16, c16 = stage(down16, down16.width, *[partial(lines)] * depths[1])
    down32 = halve_lines(c16)
    at32, c32 = stage(down32, down32.width, *[partial(crosses)] * depths[2])
    stages = [Stage([], down4), at8, at16, at32]
    backbone = Pyramid(stem, stages, [stem.width, c4, c8, c16, c32], [2, 4, 8, 16, 32])
    net = Network(backbone, Classifier(c32, num_classes, drop=drop_rate))
    initialise(net, conv=partial(nn.init.trunc_normal_, std=0.1))
    return net


# Places of the published modules, and where the convolutions of each kind stand in our branches.
PLAIN = {"branch{i}": "{i}"}  # its convolutions are numbered as ours
FIRST = {"branch0": "0.0", "branch3.1": "3.0", **PLAIN}
CROSSES = {
    "branch0": "0.0",
    "branch1_0": "1.first.0",
    **{f"branch2_{i}": f"2.first.{i}" for i in range(3)},
    **{f"branch{b}{arm}": f"{b[0]}.last.branches.{i}.0" for b in ("1_1", "2_3") for i, arm in enumerate("ab")},
    "branch3.1": "3.0",
}
PLACES = {
    "3": ("stages.0.down", {"conv": "1.0"}),
    "4": ("stages.1.down.first", PLAIN),
    "5": ("stages.1.down.last", {"conv": "0.0"}),
    **{f"{6 + i}": (f"stages.1.blocks.{i}", FIRST) for i in range(4)},
    "10": ("stages.2.down", {"branch0": "0.0", **PLAIN}),
    **{f"{11 + i}": (f"stages.2.blocks.{i}", FIRST) for i in range(7)},
    "18": ("stages.3.down", PLAIN),
    **{f"{19 + i}": (f"stages.3.blocks.{i}", CROSSES) for i in range(3)},
}


def rules(theirs: str, ours: str) -> str:
    """Rules for a convolution with its norm, alone or numbered in a row."""
    return "\n".join(
        f"{theirs}{step}.{old} -> backbone.{ours}{step}.{new}"
        for step in ("", ".{j}")
        for old, new in (("conv", "conv"), ("bn", "norm"))
    )


TIMM = "\n".join(
    [
        *[rules(f"features.{i}", f"stem.{i}") for i in range(3)],
        *[
            rules(f"features.{i}.{theirs}", f"{place}.branches.{inside}")
            for i, (place, kinds) in PLACES.items()
            for theirs, inside in kinds.items()
        ],
        "last_linear -> head.fc",
    ]
)
