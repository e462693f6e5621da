"""Inverted residuals: narrow outside, wide and depthwise inside. Sandler et al., 2018, arXiv:1801.04381"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ..layers import Conv, DropPath
from ..width import Width, same
from .stage import Stage


@dataclass(frozen=True)
class Row:
    """A line of an architecture table: blocks, kernel, stride of the first, expansion, output channels."""

    depth: int
    kernel: int
    stride: int
    ratio: int
    dim: int

    def deeper(self, factor: float) -> Row:
        return replace(self, depth=math.ceil(self.depth * factor))


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
        ratio: int = 6,
        drop: float = 0.0,
        part: Callable[..., nn.Module] = Conv,
        gate: Callable[[int, int], nn.Module] | None = None,
    ):
        super().__init__()
        hidden = Width(cin * ratio, "hidden") if ratio != 1 else cin
        self.expand = part(cin, hidden, 1) if ratio != 1 else nn.Identity()
        self.dwconv = part(hidden, hidden, kernel, stride, groups=hidden)
        self.gate = gate(hidden, cin) if gate else nn.Identity()
        self.project = part(hidden, cout, 1, act=None)
        self.drop, self.residual = DropPath(drop), stride == 1 and same(cin, cout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.gate(self.dwconv(self.expand(x))))
        return x + self.drop(y) if self.residual else y


def inverted_stages(
    rows: Sequence[Row], cin: int, dims: Sequence[int], drop: Iterator[float], block: Callable[..., nn.Module]
) -> list[nn.Module]:
    """A stage of blocks a row; `dims` are the rows' widths, `cin` the stem's."""
    return [
        Stage(
            block(dim if j else before, dim, row.kernel, 1 if j else row.stride, row.ratio, next(drop))
            for j in range(row.depth)
        )
        for row, before, dim in zip(rows, [cin, *dims], dims)
    ]


def strides(rows: Sequence[Row], stem: int = 2) -> list[int]:
    """Pixels a step behind the stem and behind every row."""
    out = [stem]
    for row in rows:
        out.append(out[-1] * row.stride)
    return out


__all__ = ["Inverted", "Row", "inverted_stages", "strides"]
