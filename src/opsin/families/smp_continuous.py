"""Networks of dense point kernels, for series and small pictures. Kim & Park, 2023, arXiv:2304.02330

Every convolution is one of drawn kernels beside a small ordinary one, each with its norm. Series are told by their last
sample, pictures by their mean; nothing is made coarser on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ..mixers.point_conv import PointConv1d, PointConv2d
from ..width import Width, same

Make = Callable[[int, int], nn.Module]


class CausalConv1d(nn.Conv1d):
    """A convolution over series (B, C, L) in which no sample sees a later one"""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.kernel_size[0] - 1, 0)))


class Pair(nn.Module):
    """norm1(large(x)) + norm2(small(x))"""

    def __init__(self, large: nn.Module, small: nn.Module, norm: Callable[[], nn.Module]):
        super().__init__()
        self.large, self.small, self.norm1, self.norm2 = large, small, norm(), norm()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm1(self.large(x)) + self.norm2(self.small(x))


class SeriesBlock(nn.Module):
    """relu(drop(relu(pair2(y))) + shortcut(x)), y = drop(relu(pair1(x)))"""

    def __init__(self, pair1: nn.Module, pair2: nn.Module, shortcut: nn.Module, drop: float = 0.0):
        super().__init__()
        self.pair1, self.pair2, self.shortcut, self.drop = pair1, pair2, shortcut, nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(F.relu(self.pair1(x)))
        return F.relu(self.drop(F.relu(self.pair2(y))) + self.shortcut(x))


class PictureBlock(SeriesBlock):
    """relu(pair2(y) + shortcut(x)), y = drop(relu(pair1(x)))"""

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(F.relu(self.pair1(x)))
        return F.relu(self.pair2(y) + self.shortcut(x))


class SeriesNet(nn.Module):
    """fc(last sample of blocks(x)), series (B, C, L) to class logits; a block for each of `dims`"""

    def __init__(
        self, in_chans: int, dims: Sequence[int], num_classes: int, points: int = 30, radius: float = 0.002,
        small: int = 5, drop: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        widths = [in_chans, *shared(dims)]

        def pair(cin: int, cout: int) -> nn.Module:
            near = CausalConv1d(cin, cout, small, bias=False)
            return Pair(PointConv1d(cin, cout, points, radius), near, lambda: nn.BatchNorm1d(cout))

        def block(cin: int, cout: int) -> nn.Module:
            hidden = Width(cout, "hidden")
            shortcut = nn.Identity() if same(cin, cout) else nn.Conv1d(cin, cout, 1)
            return SeriesBlock(pair(cin, hidden), pair(hidden, cout), shortcut, drop)

        self.blocks = nn.Sequential(*[block(a, b) for a, b in pairwise(widths)])
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(x)[..., -1])


class PictureNet(nn.Module):
    """fc(mean of blocks(relu(stem(x)))), maps (B, C, H, W) to class logits; a block for each of `dims`"""

    def __init__(
        self, in_chans: int, dims: Sequence[int], num_classes: int, kernel: int = 33, points: int = 16,
        radius: float = 0.12, drop: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        widths = shared(dims)

        def pair(cin: int, cout: int, bias: bool = False) -> nn.Module:
            near = nn.Conv2d(cin, cout, 3, padding=1, bias=bias)
            return Pair(PointConv2d(cin, cout, kernel, points, radius), near, lambda: nn.BatchNorm2d(cout))

        def block(cin: int, cout: int) -> nn.Module:
            hidden = Width(cout, "hidden")
            shortcut = nn.Identity() if same(cin, cout) else nn.Conv2d(cin, cout, 1)
            return PictureBlock(pair(cin, hidden), pair(hidden, cout), shortcut, drop)

        self.stem = pair(in_chans, widths[0], bias=True)
        self.blocks = nn.Sequential(*[block(a, b) for a, b in pairwise([widths[0], *widths])])
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(F.relu(self.stem(x))).mean((2, 3)))


def shared(dims: Sequence[int]) -> list[Width]:
    """A Width a block, the same one as long as the number of channels stays, since shortcuts tie them."""
    out: list[Width] = []
    for dim in dims:
        out.append(out[-1] if out and out[-1] == dim else Width(dim, "dim"))
    return out


def series(theirs: str, ours: str) -> str:
    """Rules for the two pairs of a published block."""
    return (
        "".join(
            f"""
    {theirs}.cconv{i}.Kernel.weight_coord -> {ours}.pair{i}.large.coords
    {theirs}.cconv{i}.Kernel        -> {ours}.pair{i}.large
    {theirs}.cconv{i}.train_length  -> {ours}.pair{i}.large.length
    {theirs}.cconv{i}               -> {ours}.pair{i}.large
    {theirs}.cconv{i}s              -> {ours}.pair{i}.small
    {theirs}.norm{i}                -> {ours}.pair{i}.norm1
    {theirs}.norm{i}s               -> {ours}.pair{i}.norm2"""
            for i in (1, 2)
        )
        + f"\n    {theirs}.shortcut.0 -> {ours}.shortcut"
    )


AUTHORS_SERIES = series("backbone.{b}", "blocks.{b}") + "\n    finallyr -> fc"
STEM = """
    cconv1.train_length  ->
    cconv1.Kernel.weight_coord -> stem.large.coords
    cconv1.Kernel -> stem.large
    cconv1 -> stem.large
    cconv1s -> stem.small
    norm1 -> stem.norm1
    norm1s -> stem.norm2
    out_layer -> fc
"""
AUTHORS_PICTURES = STEM + series("blocks.{b}", "blocks.{b}").replace("-> blocks.{b}.pair1.large.length", "->").replace(
    "-> blocks.{b}.pair2.large.length", "->"
)
