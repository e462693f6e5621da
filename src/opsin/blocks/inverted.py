"""Inverted residuals: narrow outside, wide and depthwise inside. Sandler et al., 2018, arXiv:1801.04381"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ..layers import Conv, DropPath, ramp
from ..layers.conv import Act
from ..registry import rounded
from ..width import Width, same
from .stage import Pyramid, Stage

Part = Callable[..., nn.Module]  # convolution, norm and activation as one
Gate = Callable[[int, int], nn.Module]  # (hidden, cin) to what weighs the hidden channels


class Inverted(nn.Module):
    """x + drop(project(gate(dwconv(expand(x))))), the input added where its shape is kept

    `gate(hidden, cin)` makes what weighs the widened channels; `part` is the convolution, norm and activation in use.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 3,
        stride: int = 1,
        ratio: float = 6,
        drop: float = 0.0,
        part: Part = Conv,
        gate: Gate | None = None,
    ):
        super().__init__()
        hidden = Width(rounded(cin * ratio), "hidden") if ratio != 1 else cin
        self.expand = part(cin, hidden, 1) if ratio != 1 else nn.Identity()
        self.dwconv = part(hidden, hidden, kernel, stride, groups=hidden)
        self.gate = gate(hidden, cin) if gate else nn.Identity()
        self.project = part(hidden, cout, 1, act=None)
        self.drop, self.residual = DropPath(drop), stride == 1 and same(cin, cout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.gate(self.dwconv(self.expand(x))))
        return x + self.drop(y) if self.residual else y


class Fused(nn.Module):
    """x + drop(project(expand(x))): one dense convolution in place of the 1x1 and the depthwise one"""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 3,
        stride: int = 1,
        ratio: float = 4,
        drop: float = 0.0,
        part: Part = Conv,
        gate: Gate | None = None,
    ):
        super().__init__()
        hidden = Width(rounded(cin * ratio), "hidden")
        self.expand = part(cin, hidden, kernel, stride)
        self.gate = gate(hidden, cin) if gate else nn.Identity()
        self.project = part(hidden, cout, 1, act=None)
        self.drop, self.residual = DropPath(drop), stride == 1 and same(cin, cout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.gate(self.expand(x)))
        return x + self.drop(y) if self.residual else y


class Plain(nn.Module):
    """x + drop(conv(x)), the input added where its shape is kept; nothing is expanded or gated"""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 3,
        stride: int = 1,
        ratio: float = 1,
        drop: float = 0.0,
        part: Part = Conv,
        gate: Gate | None = None,
    ):
        super().__init__()
        self.conv = part(cin, cout, kernel, stride)
        self.drop, self.residual = DropPath(drop), stride == 1 and same(cin, cout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + self.drop(y) if self.residual else y


@dataclass(frozen=True)
class Row:
    """A line of an architecture table: blocks, kernel, stride of the first, expansion, output channels

    `ratio` is one for each block where they differ. `act` and `gate` stand for the network's own, `block` makes the
    blocks. Blocks that keep their shape add their input, unless `adds` is false: then no two of them share widths.
    """

    depth: int
    kernel: Any
    stride: int
    ratio: float | tuple[float, ...]
    dim: int
    act: Act | None = None
    gate: Gate | None = None
    block: Callable[..., nn.Module] = Inverted
    adds: bool = True

    def deeper(self, factor: float) -> Row:
        return replace(self, depth=math.ceil(self.depth * factor))

    def blocks(self, cin: int, dim: int, drops: Sequence[float], part: Part, gate: Gate | None) -> list[nn.Module]:
        ratios = self.ratio if isinstance(self.ratio, tuple) else (self.ratio,) * self.depth
        part, gate = partial(part, act=self.act) if self.act else part, self.gate or gate
        middle = [dim if self.adds else Width(dim, "dim") for _ in ratios[1:]]
        sizes = pairwise([cin, *middle, dim])
        return [
            self.block(a, b, self.kernel, 1 if j else self.stride, ratio, drop, part, gate)
            for j, ((a, b), ratio, drop) in enumerate(zip(sizes, ratios, drops, strict=True))
        ]


def inverted(
    rows: Sequence[Row],
    wide: float,
    stem: int,
    part: Part,
    gate: Gate | None = None,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
) -> Pyramid:
    """A strided stem, then a stage of blocks a row, with channels scaled by `wide`."""
    drop = ramp(drop_path_rate, sum(row.depth for row in rows))
    widths, strides, stages = [Width(stem, "stem")], [2], []
    for i, row in enumerate(rows, 1):
        cin, size = widths[-1], rounded(row.dim * wide)
        kept = row.stride == 1 and size == cin and row.adds
        dim = cin if kept else Width(size, f"dim{i}")
        stages.append(Stage(row.blocks(cin, dim, [next(drop) for _ in range(row.depth)], part, gate)))
        widths.append(dim)
        strides.append(strides[-1] * row.stride)
    return Pyramid(part(in_chans, widths[0], 3, 2), stages, widths, strides)


__all__ = ["Fused", "Gate", "Inverted", "Part", "Plain", "Row", "inverted"]
