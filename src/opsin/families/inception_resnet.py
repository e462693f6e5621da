"""Inception-ResNet v1 and v2: Inception modules as residual branches. Szegedy et al., 2016, arXiv:1602.07261

A branch is scaled down (0.1 to 0.3) before it is added, without which wide networks of this kind do not train.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..blocks.branches import Branches, Row, Then
from ..layers import DropPath, ramp, relu
from ..layers.init import initialise
from ..registry import family
from .inception_v4 import PAPER, average, halve_squares, largest, rules

Rows = Sequence[Sequence[tuple[Any, ...]]]  # the steps of each branch
SCALES = (0.17, 0.10, 0.20)


class Residual(nn.Module):
    """act(x + scale * proj(branches(x))); `width` is what it makes: what it reads"""

    def __init__(self, dim: int, rows: Rows, scale: float, drop: float = 0.0, act: nn.Module | None = None):
        super().__init__()
        self.branches = Branches(*[Row(dim, *steps) for steps in rows])
        self.proj, self.scale, self.width = nn.Conv2d(self.branches.width, dim, 1), scale, dim
        self.drop, self.act = DropPath(drop), act or relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.scale * self.drop(self.proj(self.branches(x))))


def residuals(down: nn.Module, dim: int, rows: Rows, depth: int, scale: float, drop: Iterator[float]) -> Stage:
    return Stage([Residual(dim, rows, scale, next(drop)) for _ in range(depth)], down)


def entry(in_chans: int) -> tuple[Row, Row]:
    """The first convolutions, which both versions share with v3."""
    stem = Row(in_chans, (32, 3, 2, 0), (32, 3, 1, 0), (64, 3))
    return stem, Row(stem.width, (80, 1), (192, 3, 1, 0))


def halve_lines(cin: int, a: int, b: int, c: int, d: int) -> Branches:
    """Reduction-B: three branches of 3x3 to a, b and d channels beside a pooling"""
    return Branches(
        Row(cin, (256, 1), (a, 3, 2, 0)),
        Row(cin, (256, 1), (b, 3, 2, 0)),
        Row(cin, (256, 1), (c, 3), (d, 3, 2, 0)),
        largest(cin),
    )


@family(PAPER, inception_resnet_v1=dict(depths=(5, 10, 5)))
def inception_resnet_v1(
    depths: tuple[int, int, int],
    scales: tuple[float, float, float] = SCALES,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`scales` of the residual branches of the three stages."""
    drop = ramp(drop_path_rate, sum(depths))
    stem, second = entry(in_chans)
    down8 = Row(second.width, (256, 3, 2, 0))
    a: Rows = [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (32, 3), (32, 3)]]
    b: Rows = [[(128, 1)], [(128, 1), (128, (1, 7)), (128, (7, 1))]]
    c: Rows = [[(192, 1)], [(192, 1), (192, (1, 3)), (192, (3, 1))]]
    down16 = halve_squares(down8.width, 192, 192, 256, 384)
    down32 = halve_lines(down16.width, 384, 256, 256, 256)
    downs: list[Row | Branches | Then] = [down8, down16, down32]
    last = [residuals(d, d.width, r, n, s, drop) for d, r, n, s in zip(downs, (a, b, c), depths, scales)]
    widths = [stem.width, second.width, *[d.width for d in downs]]
    backbone = Pyramid(stem, [Stage(second, nn.MaxPool2d(3, 2)), *last], widths, [2, 4, 8, 16, 32])
    net = Network(backbone, Classifier(widths[-1], num_classes, drop=drop_rate))
    initialise(net, conv=partial(nn.init.trunc_normal_, std=0.1))
    return net


@family(PAPER, inception_resnet_v2=dict(depths=(10, 20, 9)))
def inception_resnet_v2(
    depths: tuple[int, int, int],
    scales: tuple[float, float, float] = SCALES,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`scales` of the residual branches of the three stages; one more, unscaled and not rectified, ends the last."""
    drop = ramp(drop_path_rate, sum(depths))
    stem, second = entry(in_chans)
    c4 = second.width
    mixed = Branches(
        Row(c4, (96, 1)),
        Row(c4, (48, 1), (64, 5)),
        Row(c4, (64, 1), (96, 3), (96, 3)),
        Row(c4, (64, 1), pool=average()),
    )
    a: Rows = [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)]]
    b: Rows = [[(192, 1)], [(128, 1), (160, (1, 7)), (192, (7, 1))]]
    c: Rows = [[(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))]]
    down16 = halve_squares(mixed.width, 256, 256, 384, 384)
    down32 = halve_lines(down16.width, 384, 288, 288, 320)
    downs: list[Row | Branches | Then] = [Then(nn.MaxPool2d(3, 2), mixed), down16, down32]
    last = [residuals(d, d.width, r, n, s, drop) for d, r, n, s in zip(downs, (a, b, c), depths, scales)]
    out = Row(down32.width, (1536, 1))
    last[-1].blocks.extend([Residual(down32.width, c, 1.0, act=nn.Identity()), out])
    widths = [stem.width, c4, mixed.width, down16.width, out.width]
    backbone = Pyramid(stem, [Stage(second, nn.MaxPool2d(3, 2)), *last], widths, [2, 4, 8, 16, 32])
    net = Network(backbone, Classifier(out.width, num_classes, drop=drop_rate))
    initialise(net, conv=partial(nn.init.trunc_normal_, std=0.1))
    return net


def inside(theirs: str, ours: str) -> list[str]:
    """Rules for branches: the first and the pooled one are single convolutions, the others numbered rows."""
    return [rules(f"{theirs}.branch{{i}}", f"{ours}.branches.{{i}}")]


def block(theirs: str, ours: str) -> list[str]:
    single = rules(f"{theirs}.branch0", f"{ours}.branches.branches.0.0")
    row = rules(f"{theirs}.branch{{i}}", f"{ours}.branches.branches.{{i}}")
    return [single, row, f"{theirs}.conv2d -> backbone.{ours}.proj"]


TIMM = "\n".join(
    [
        *[rules(f"conv2d_{x}", place) for x, place in zip(("1a", "2a", "2b"), ("stem.0", "stem.1", "stem.2"))],
        rules("conv2d_3b", "stages.0.blocks.0"),
        rules("conv2d_4a", "stages.0.blocks.1"),
        rules("mixed_5b.branch0", "stages.1.down.last.branches.0.0"),
        rules("mixed_5b.branch3.1", "stages.1.down.last.branches.3.0"),
        *inside("mixed_5b", "stages.1.down.last"),
        *block("repeat.{b}", "stages.1.blocks.{b}"),
        rules("mixed_6a.branch0", "stages.2.down.branches.0.0"),
        *inside("mixed_6a", "stages.2.down"),
        *block("repeat_1.{b}", "stages.2.blocks.{b}"),
        *inside("mixed_7a", "stages.3.down"),
        *block("repeat_2.{b}", "stages.3.blocks.{b}"),
        *block("block8", "stages.3.blocks.9"),
        rules("conv2d_7b", "stages.3.blocks.10.0"),
        "classif -> head.fc",
    ]
)
