"""NASNet-A: a cell found by search, repeated. Zoph et al., 2017, arXiv:1707.07012

A normal cell keeps the resolution, a reduction cell halves it; both read the two maps before them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Blocks, Classifier, Features, Network
from ..layers import SameConv2d, ScheduledDropPath, ramp
from ..registry import about, family
from ..width import Concat, Groups, Width

loose: Callable[[int], nn.Module] = partial(nn.BatchNorm2d, eps=1e-3)

# A cell adds up pairs of (operation, input) and lays some of its maps end to end: input 0 is the map before the last,
# 1 the last, 2 the first sum, and so on.
Genotype = tuple[Sequence[tuple[str, int, str, int]], Sequence[int]]
SUMS = [
    ("sep5", 1, "sep3", 0),
    ("sep5", 0, "sep3", 0),
    ("avg", 1, "skip", 0),
    ("avg", 0, "avg", 0),
    ("sep3", 1, "skip", 1),
]
NORMAL: Genotype = (SUMS, (0, 2, 3, 4, 5, 6))
HALF = [
    ("sep5", 1, "sep7", 0),
    ("max", 1, "sep7", 0),
    ("avg", 1, "sep5", 0),
    ("avg", 2, "skip", 3),
    ("sep3", 2, "max", 1),
]
REDUCE: Genotype = (HALF, (3, 4, 5, 6))


def separable(cin: int, cout: int, kernel: int, stride: int) -> nn.Module:
    """Twice: act, depthwise and pointwise convolution, norm; the first takes the stride"""
    dw = SameConv2d(cin, cin, kernel, stride, groups=cin, bias=False)
    mid = Width(cout, "hidden")
    again = nn.Conv2d(mid, mid, kernel, padding=kernel // 2, groups=mid, bias=False)
    first = dict(act1=nn.ReLU(), dwconv1=dw, conv1=nn.Conv2d(cin, mid, 1, bias=False), norm1=loose(mid))
    second = dict(act2=nn.ReLU(), dwconv2=again, conv2=nn.Conv2d(mid, cout, 1, bias=False), norm2=loose(cout))
    return nn.Sequential(OrderedDict(**first, **second))


class HalvingPool(nn.Module):
    """A pooling of 3x3 at stride 2, padded with `fill` as TensorFlow does it"""

    def __init__(self, pool: Callable[[Tensor, int, int], Tensor], fill: float):
        super().__init__()
        self.pool, self.fill = pool, fill

    def forward(self, x: Tensor) -> Tensor:
        h, w = (1 + side % 2 for side in x.shape[-2:])
        return self.pool(F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2), value=self.fill), 3, 2)


def average(stride: int) -> nn.Module:
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False) if stride == 1 else HalvingPool(F.avg_pool2d, 0.0)


def largest(stride: int) -> nn.Module:
    return nn.MaxPool2d(3, 1, 1) if stride == 1 else HalvingPool(F.max_pool2d, -torch.inf)


def operation(name: str, cin: int, cout: int, stride: int) -> nn.Module:
    """An entry of the search space: sep3, sep5, sep7, avg, max or skip."""
    if name.startswith("sep"):
        return separable(cin, cout, int(name[3:]), stride)
    return {"skip": lambda stride: nn.Identity(), "avg": average, "max": largest}[name](stride)


class Squeeze(nn.Module):
    """norm(conv(act(x))): an input brought to the cell's channels"""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(cin, cout, 1, bias=False), loose(cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.relu(x)))


class Halve(nn.Module):
    """norm([conv(every other pixel), conv(the pixels right below those)]): an input of twice the resolution"""

    def __init__(self, cin: int, cout: Concat):
        super().__init__()
        self.even, self.odd = (nn.Conv2d(cin, half, 1, bias=False) for half in cout.parts)
        self.norm = loose(cout)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x, (-1, 1, -1, 1))
        return self.norm(torch.cat([self.even(x[:, :, ::2, ::2]), self.odd(shifted[:, :, ::2, ::2])], 1))


class Cell(nn.Module):
    """A cell of any genotype: (map before the last, last map) -> its sums laid end to end

    `left` and `right` bring the two maps to `dim` channels; where `left` is the identity, what reads it does.
    `width` is what the cell makes.
    """

    def __init__(
        self,
        genotype: Genotype,
        left: nn.Module,
        right: nn.Module,
        dim: int,
        stride: int = 1,
        before: int | None = None,
        drop: float = 0.0,
    ):
        super().__init__()
        pairs, self.ends = genotype
        self.left, self.right = left, right
        self.pairs = [(a, b) for _, a, _, b in pairs]
        widths = [before or dim, *[dim] * (len(pairs) + 1)]

        def made(name: str, at: int) -> nn.Module:
            return operation(name, widths[at], dim, stride if at < 2 else 1)

        sums = [nn.ModuleList([made(f, a), made(g, b)]) for f, a, g, b in pairs]
        self.operations, self.drop = nn.ModuleList(sums), ScheduledDropPath(drop)
        self.width = Groups(len(self.ends), dim)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        maps = [self.left(before), self.right(last)]
        operations: Any = self.operations
        for (f, g), (a, b) in zip(operations, self.pairs):
            maps.append(self.dropped(f, maps[a]) + self.dropped(g, maps[b]))
        return torch.cat([maps[i] for i in self.ends], 1)

    def dropped(self, operation: nn.Module, x: Tensor) -> Tensor:
        return x if isinstance(operation, nn.Identity) else self.drop(operation(x))


class Cells(nn.Module):
    """A stem, then cells that read the two maps before them

    With `skip`, the cell behind a reduction reads the map before the reduction's input instead of that input.
    """

    def __init__(self, stem: nn.Module, cells: Sequence[Cell], ends: Sequence[int], widths: Sequence[int], skip: bool):
        super().__init__()
        self.stem, self.blocks = stem, Blocks(*cells)
        self.ends, self.widths, self.strides, self.skip = list(ends), list(widths), [2, 4, 8, 16, 32], skip

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        made = [self.stem(x)]
        for cell in self.blocks:
            before = made[second_last(len(made), self.skip and isinstance(cell.left, Halve))]
            made.append(self.blocks.run(partial(cell, before), made[-1]))
        return Features([made[self.ends[tap]] for tap in taps], [self.strides[tap] for tap in taps])


def second_last(made: int, jumps: bool) -> int:
    """Where among the maps made so far a cell's first input is; the first cells have no choice."""
    return -3 if jumps and made > 3 else -min(made, 2)


@family(
    about(
        title="Learning Transferable Architectures for Scalable Image Recognition",
        arxiv="1707.07012",
        licence="Apache-2.0",
        native=331,
    ),
    nasnetalarge=dict(dim=168, depth=6, stem=96, skip=True),
    nasnetamobile=dict(dim=44, depth=4, stem=32, native=224),
)
def nasnet(
    dim: int,
    depth: int,
    stem: int,
    skip: bool = False,
    normal: Genotype = NORMAL,
    reduce: Genotype = REDUCE,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`depth` normal cells of `dim`, twice and four times as many channels, with reductions before and between.

    `drop_path_rate` is reached at the end of training: see `layers.drop.advance`.
    """
    first = Width(stem, "stem")
    entry = nn.Sequential(OrderedDict(conv=nn.Conv2d(in_chans, first, 3, 2, bias=False), norm=loose(first)))
    n, drop = [normal] * depth, ramp(drop_path_rate, 3 * depth + 4)
    row = [(reduce, dim // 4), (reduce, dim // 2), *[(g, dim) for g in n], (reduce, 2 * dim)]
    row += [*[(g, 2 * dim) for g in n], (reduce, 4 * dim), *[(g, 4 * dim) for g in n]]
    cells: list[Cell] = []
    outs: list[tuple[int, int]] = [(first, 2)]  # width and stride of every map
    for genotype, size in row:
        last, stride = outs[-1]
        halves = len(outs) > 1 and outs[-2][1] != stride
        before = outs[second_last(len(outs), skip and halves)][0]
        cells.append(cell(genotype, before, last, size, 2 if genotype is reduce else 1, next(drop), halves))
        outs.append((cells[-1].width, stride * (2 if genotype is reduce else 1)))
    ends = [max(i for i, (_, s) in enumerate(outs) if s == stride) for stride in (2, 4, 8, 16, 32)]
    backbone = Cells(entry, cells, ends, [outs[i][0] for i in ends], skip)
    return Network(backbone, Classifier(outs[-1][0], num_classes, before=nn.ReLU(), drop=drop_rate))


def cell(genotype: Genotype, before: int, last: int, size: int, stride: int, drop: float, halves: bool) -> Cell:
    """A cell behind maps of the widths `before` and `last`, of which the first may have twice the resolution."""
    if halves:
        both = Concat(Width(size // 2, "even"), Width(size // 2, "odd"))
        return Cell(genotype, Halve(before, both), Squeeze(last, both), both, stride, drop=drop)
    dim = Width(size, "dim")
    if before is last:  # the first cell: both inputs are the stem's
        return Cell(genotype, nn.Identity(), Squeeze(last, dim), dim, stride, before, drop)
    return Cell(genotype, Squeeze(before, dim), Squeeze(last, dim), dim, stride, drop=drop)


PARTS = {
    "conv_prev_1x1.conv": "left.conv",
    "conv_prev_1x1.bn": "left.norm",
    "path_1.conv": "left.even",
    "path_2.conv": "left.odd",
    "final_path_bn": "left.norm",
    "conv_1x1.conv": "right.conv",
    "conv_1x1.bn": "right.norm",
    **{
        f"comb_iter_{{i}}_{side}.{theirs}_{n}{more}": f"operations.{{i}}.{s}.{ours}{n}"
        for s, side in enumerate(("left", "right"))
        for n in (1, 2)
        for theirs, more, ours in (
            ("separable", ".depthwise_conv2d", "dwconv"),
            ("separable", ".pointwise_conv2d", "conv"),
            ("bn_sep", "", "norm"),
        )
    },
}


def table(depth: int) -> str:
    """Rules for networks of three times `depth` normal cells, which are counted apart from the others."""
    names = ["cell_stem_0", "cell_stem_1", *[f"cell_{i}" for i in range(depth)], "reduction_cell_0"]
    names += [*[f"cell_{i}" for i in range(depth, 2 * depth)], "reduction_cell_1"]
    names += [f"cell_{i}" for i in range(2 * depth, 3 * depth)]
    rules = [f"{name}.{old} -> backbone.blocks.{b}.{new}" for b, name in enumerate(names) for old, new in PARTS.items()]
    ends = ["conv0.conv -> backbone.stem.conv", "conv0.bn -> backbone.stem.norm", "last_linear -> head.fc"]
    return "\n".join([*rules, *ends])


TIMM, MOBILE = table(6), table(4)
