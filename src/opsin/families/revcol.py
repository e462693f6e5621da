"""RevCol: columns that refine all maps together and can be run backwards. Cai et al., 2022, arXiv:2212.11696

Each column is a small ConvNeXt whose levels also see the coarser map of the column before; what a level adds to its
old map can be taken away again, so training needs no more memory for more columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Network
from ..blocks.columns import Column, Columns
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..registry import about, family
from ..width import each
from .convnext import ConvNeXtBlock

Above = Callable[[int], tuple[int, ...]]


def next_above(i: int) -> tuple[int, ...]:
    """Every level sees the one above it; the last has none."""
    return (i + 1,) if i < 3 else ()


def last_too(i: int) -> tuple[int, ...]:
    """The finest level sees the coarsest map, too."""
    return (1, 3) if i == 0 else next_above(i)


class Up(nn.Module):
    """norm(proj(x)), for a finer map"""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.proj, self.norm = nn.Linear(cin, cout), LayerNorm(cout)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        y = self.norm(self.proj(x.movedim(1, -1))).movedim(-1, 1)
        return F.interpolate(y, list(size), mode="nearest")


class Level(nn.Module):
    """blocks(down(below) + sum of up_j(map j above))"""

    def __init__(self, down: nn.Module, ups: Mapping[int, Up], blocks: Sequence[nn.Module]):
        super().__init__()
        self.above = tuple(ups)
        self.down, self.ups, self.blocks = down, nn.ModuleList(ups.values()), nn.Sequential(*blocks)

    def forward(self, below: Tensor, *above: Tensor) -> Tensor:
        y = self.down(below)
        for up, m in zip(self.ups, above):
            y = y + up(m, y.shape[2:])
        return self.blocks(y)


def patches(cin: int, cout: int, side: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(cin, cout, side, side), LayerNorm(cout, dim=1))


def column(dims: Sequence[int], depths: Sequence[int], kernel: int, above: Above, drop_path_rate: float) -> Column:
    drop = ramp(drop_path_rate, sum(depths))
    levels = [
        Level(
            patches(dims[i - 1], dims[i], 2) if i else nn.Identity(),
            {j: Up(dims[j], dims[i]) for j in above(i)},
            [ConvNeXtBlock(dims[i], kernel, next(drop)) for _ in range(depth)],
        )
        for i, depth in enumerate(depths)
    ]
    return Column(levels, dims)


SMALL: dict[str, Any] = dict(dims=(64, 128, 256, 512), depths=(2, 2, 4, 2))
LARGE: dict[str, Any] = dict(depths=(1, 2, 6, 2), columns=8)


@family(
    about(title="Reversible Column Networks", arxiv="2212.11696", licence="Apache-2.0"),
    revcol_tiny=dict(columns=4, **SMALL),
    revcol_small=dict(columns=8, **SMALL),
    revcol_base=dict(dims=(72, 144, 288, 576), depths=(1, 1, 3, 2), columns=16),
    revcol_large=dict(dims=(128, 256, 512, 1024), **LARGE),
    revcol_xlarge=dict(dims=(224, 448, 896, 1792), **LARGE),
    revcol_huge=dict(dims=(360, 720, 1440, 2880), above=last_too, **LARGE),
)
def revcol(
    dims: Sequence[int],
    depths: Sequence[int],
    columns: int,
    kernel: int = 3,
    above: Above = next_above,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`above` names the older, coarser maps that level i sees; in the first column there are none."""
    dims = each(*dims)
    made = [column(dims, depths, kernel, above if i else nothing, drop_path_rate) for i in range(columns)]
    backbone = Columns(patches(in_chans, dims[0], 4), made, dims, [4, 8, 16, 32])
    net = Network(backbone, Classifier(dims[-1], num_classes, after=LayerNorm(dims[-1]), drop=drop_rate))
    initialise(net, conv=trunc02, linear=trunc02)
    return net


def nothing(i: int) -> tuple[int, ...]:
    return ()


LEVEL = """
    subnet{c}.alpha{i}                                  -> {to}.keeps.{i}.gamma
    subnet{c}.level{i}.fusion.down                      -> {to}.levels.{i}.down
    subnet{c}.level{i}.fusion.up.channel_reschedule.0   -> {to}.levels.{i}.ups.0.proj
    subnet{c}.level{i}.fusion.up.channel_reschedule.1   -> {to}.levels.{i}.ups.0.norm
    subnet{c}.level{i}.fusion.up2.channel_reschedule.0  -> {to}.levels.{i}.ups.1.proj
    subnet{c}.level{i}.fusion.up2.channel_reschedule.1  -> {to}.levels.{i}.ups.1.norm
    subnet{c}.level{i}.blocks.{b}.pwconv{k}             -> {to}.levels.{i}.blocks.{b}.mlp.fc{k}
    subnet{c}.level{i}.blocks.{b}.gamma                 -> {to}.levels.{i}.blocks.{b}.scale.gamma
    subnet{c}.level{i}.blocks.{b}                       -> {to}.levels.{i}.blocks.{b}
"""
BODY = "stem -> backbone.stem" + LEVEL.replace("{to}", "backbone.blocks.{c}")
AUTHORS = (
    BODY
    + """
    cls.classifier.0                                    -> head.after
    cls.classifier.1                                    -> head.fc
"""
)
