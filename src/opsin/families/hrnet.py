"""HRNet: maps of all resolutions side by side, exchanged again and again. Wang et al., 2019, arXiv:1908.07919

The finest map is kept from the first stage to the last; every stage adds a map of half the resolution. For
classification the maps are widened and added up from fine to coarse.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Blocks, Classifier, Features, Network, Stage
from ..blocks.residual import Basic, Bottleneck, inner
from ..layers import Conv, relu
from ..layers.init import initialise, kaiming_out
from ..registry import about, family
from ..width import Width, each


class Widen(nn.Module):
    """Maps of the next stage: those there are, projected where their channels change, and one of half the resolution"""

    def __init__(self, before: Sequence[int], after: Sequence[int]):
        super().__init__()
        kept = [nn.Identity() if a is b else Conv(a, b) for a, b in zip(before, after)]
        self.convs = nn.ModuleList([*kept, Conv(before[-1], after[-1], 3, 2)])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [conv(x) for conv, x in zip(self.convs, [*maps, maps[-1]])]


def path(dims: Sequence[int], i: int, j: int) -> nn.Module:
    """From map j to the channels (and, if i is coarser, the resolution) of map i."""
    if i == j:
        return nn.Identity()
    if i < j:
        return Conv(dims[j], dims[i], 1, act=None)
    inside = [dims[j], *[Width(dims[j], "hidden") for _ in range(i - j - 1)]]
    halves = [Conv(a, b, 3, 2) for a, b in pairwise(inside)]
    return nn.Sequential(*halves, Conv(inside[-1], dims[i], 3, 2, act=None))


class Exchange(nn.Module):
    """act(sum over j of path_ij(branch_j(x_j))) for every map i; coarser maps are repeated to the finer one's pixels"""

    def __init__(self, dims: Sequence[int], depth: int):
        super().__init__()
        n = range(len(dims))
        self.branches = nn.ModuleList(Blocks(*[Basic(dim, dim) for _ in range(depth)]) for dim in dims)
        self.paths = nn.ModuleList(nn.ModuleList(path(dims, i, j) for j in n) for i in n)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps)]
        out = []
        rows: Any = self.paths
        for x, paths in zip(maps, rows):
            made = [step(y) for step, y in zip(paths, maps)]
            added: Any = sum(m if m.shape == x.shape else F.interpolate(m, x.shape[-2:]) for m in made)
            out.append(F.relu(added))
        return out


class HighResolution(nn.Module):
    """The stem's map, then one for every resolution of the last stage, widened by `tops`"""

    def __init__(self, stem: nn.Module, first: nn.Module, stages: list[Stage], tops: list[nn.Module], dims: list[int]):
        super().__init__()
        self.stem, self.first = stem, first
        self.stages, self.tops = nn.ModuleList(stages), nn.ModuleList(tops)
        self.widths, self.strides = dims, [2, 4, 8, 16, 32]

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        low = self.stem(x)
        maps = [self.first(low)]
        for stage in self.stages:
            maps = stage(maps)
        wanted = [tap % 5 for tap in taps]
        made = [self.tops[i - 1](maps[i - 1]) if i else low for i in wanted]
        return Features(made, [self.strides[i] for i in wanted])


def part(cin: int, cout: int, kernel: int, stride: int, bias: bool) -> nn.Module:
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=bias)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(cout), act=relu()))


class Cascade(Classifier):
    """fc(drop(pool(last(sum of maps)))), each map added to the finer ones' sum at half its resolution"""

    taps = (1, 2, 3, 4)

    def __init__(self, dims: Sequence[int], width: int, num_classes: int, drop: float = 0.0, bias: bool = True):
        super().__init__(width, num_classes, drop=drop)
        self.downs = nn.ModuleList(part(a, b, 3, 2, bias) for a, b in pairwise(dims))
        self.last = part(dims[-1], width, 1, 1, bias)

    def unpooled(self, features: Features) -> Tensor:
        y, *others = features.maps
        for down, m in zip(self.downs, others):
            y = m + down(y)
        return self.last(y)


SMALL = dict(deep=2, modules=(1, 1, 1))


@family(
    about(
        title="Deep High-Resolution Representation Learning for Visual Recognition", arxiv="1908.07919", licence="MIT"
    ),
    hrnet_w18_small=dict(dim=16, first=(1, 32), **SMALL),
    hrnet_w18_small_v2=dict(dim=18, first=(2, 64), deep=2, modules=(1, 3, 2)),
    hrnet_w18=dict(dim=18),
    hrnet_w30=dict(dim=30),
    hrnet_w32=dict(dim=32),
    hrnet_w40=dict(dim=40),
    hrnet_w44=dict(dim=44),
    hrnet_w48=dict(dim=48),
    hrnet_w64=dict(dim=64),
    hrnet_w18_ssld=dict(dim=18, bias=False),
    hrnet_w48_ssld=dict(dim=48, bias=False),
)
def hrnet(
    dim: int,
    deep: int = 4,
    modules: Sequence[int] = (1, 4, 3),
    first: tuple[int, int] = (4, 64),
    bias: bool = True,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
) -> Network:
    """`dim` channels in the finest map, `modules` exchanges a stage, `deep` blocks a branch; `first`: depth, width."""
    stem, low, wide = Width(64, "stem"), Width(64, "dim"), Width(4 * first[1], "dim")
    dims, tops = each(*[dim * 2**i for i in range(4)]), each(128, 256, 512, 1024, name="top")
    blocks = [Bottleneck(wide if j else low, wide, 1, inner(first[1])) for j in range(first[0])]
    stages = [
        Stage([Exchange(dims[:n], deep) for _ in range(count)], Widen(dims[: n - 1] if n > 2 else [wide], dims[:n]))
        for n, count in enumerate(modules, 2)
    ]
    backbone = HighResolution(
        Conv(in_chans, stem, 3, 2),
        nn.Sequential(Conv(stem, low, 3, 2), *blocks),
        stages,
        [Bottleneck(d, top, 1, inner(top // 4)) for d, top in zip(dims, tops)],
        [stem, *tops],
    )
    net = Network(backbone, Cascade(tops, Width(2048, "head"), num_classes, drop_rate, bias))
    initialise(net, conv=kaiming_out)
    return net


TIMM = """
    conv1                                 -> backbone.stem.conv
    bn1                                   -> backbone.stem.norm
    conv2                                 -> backbone.first.0.conv
    bn2                                   -> backbone.first.0.norm
    layer1.{b}.conv{i}                    -> backbone.first.{b+1}.conv{i}.conv
    layer1.{b}.bn{i}                      -> backbone.first.{b+1}.conv{i}.norm
    layer1.{b}.downsample.0               -> backbone.first.{b+1}.shortcut.conv
    layer1.{b}.downsample.1               -> backbone.first.{b+1}.shortcut.norm
    transition{s}.{i}.0.0                 -> backbone.stages.{s-1}.down.convs.{i}.conv
    transition{s}.{i}.0.1                 -> backbone.stages.{s-1}.down.convs.{i}.norm
    transition{s}.{i}.0                   -> backbone.stages.{s-1}.down.convs.{i}.conv
    transition{s}.{i}.1                   -> backbone.stages.{s-1}.down.convs.{i}.norm
    stage{s}.{m}.branches.{i}.{b}.conv{j} -> backbone.stages.{s-2}.blocks.{m}.branches.{i}.{b}.conv{j}.conv
    stage{s}.{m}.branches.{i}.{b}.bn{j}   -> backbone.stages.{s-2}.blocks.{m}.branches.{i}.{b}.conv{j}.norm
    stage{s}.{m}.fuse_layers.{i}.{j}.{k}.0 -> backbone.stages.{s-2}.blocks.{m}.paths.{i}.{j}.{k}.conv
    stage{s}.{m}.fuse_layers.{i}.{j}.{k}.1 -> backbone.stages.{s-2}.blocks.{m}.paths.{i}.{j}.{k}.norm
    stage{s}.{m}.fuse_layers.{i}.{j}.0    -> backbone.stages.{s-2}.blocks.{m}.paths.{i}.{j}.conv
    stage{s}.{m}.fuse_layers.{i}.{j}.1    -> backbone.stages.{s-2}.blocks.{m}.paths.{i}.{j}.norm
    incre_modules.{i}.0.conv{j}           -> backbone.tops.{i}.conv{j}.conv
    incre_modules.{i}.0.bn{j}             -> backbone.tops.{i}.conv{j}.norm
    incre_modules.{i}.0.downsample.0      -> backbone.tops.{i}.shortcut.conv
    incre_modules.{i}.0.downsample.1      -> backbone.tops.{i}.shortcut.norm
    downsamp_modules.{i}.0                -> head.downs.{i}.conv
    downsamp_modules.{i}.1                -> head.downs.{i}.norm
    final_layer.0                         -> head.last.conv
    final_layer.1                         -> head.last.norm
    classifier                            -> head.fc
"""
