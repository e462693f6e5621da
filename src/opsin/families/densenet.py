"""DenseNet: every layer reads everything made before it. Huang et al., 2016, arXiv:1608.06993"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Blocks, Classifier, Network, Pyramid
from ..layers import BlurPool, Conv, DropPath
from ..layers.init import initialise
from ..registry import about, family
from ..width import Concat, Width


class DenseLayer(nn.Module):
    """[x, conv2(relu(norm2(conv1(relu(norm1(x))))))]: 1x1 to `ratio` times the growth, 3x3 to the growth"""

    def __init__(self, cin: int, growth: int, ratio: int = 4, drop: float = 0.0):
        super().__init__()
        hidden = Width(ratio * growth, "hidden")
        self.norm1, self.conv1 = nn.BatchNorm2d(cin), nn.Conv2d(cin, hidden, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(hidden), nn.Conv2d(hidden, growth, 3, padding=1, bias=False)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x), inplace=True))
        y = self.conv2(F.relu(self.norm2(y), inplace=True))
        return torch.cat([x, self.drop(y)], 1)


class DenseStage(nn.Module):
    """Layers that each add to the map; `width` is what the stage hands on."""

    def __init__(
        self,
        cin: int,
        depth: int,
        growth: int,
        down: nn.Module,
        drop: float = 0.0,
        layer: Callable[..., nn.Module] = DenseLayer,
    ):
        super().__init__()
        grown = [Width(growth, "growth") for _ in range(depth)]
        self.down = down
        self.blocks = Blocks(*[layer(Concat(cin, *grown[:i]), g, drop=drop) for i, g in enumerate(grown)])
        self.width = Concat(cin, *grown)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x))


def halve(cin: int, cout: int) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(cin), nn.ReLU(inplace=True), nn.Conv2d(cin, cout, 1, bias=False), nn.AvgPool2d(2)
    )


def max_pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, 1)


def blurred() -> nn.Module:
    return nn.Sequential(nn.MaxPool2d(3, 1, 1), BlurPool())


def seven(cin: int, cout: int) -> nn.Module:
    return Conv(cin, cout, 7, 2)


def deep(cin: int, cout: int) -> nn.Module:
    """Three 3x3 convolutions, the first with stride 2"""
    a, b = Width(cout // 2, "stem1"), Width(cout // 2, "stem2")
    return nn.Sequential(Conv(cin, a, 3, 2), Conv(a, b), Conv(b, cout))


@family(
    about(title="Densely Connected Convolutional Networks", arxiv="1608.06993", licence="BSD-3-Clause"),
    densenet121=dict(depths=(6, 12, 24, 16)),
    densenet169=dict(depths=(6, 12, 32, 32)),
    densenet201=dict(depths=(6, 12, 48, 32)),
    densenet161=dict(depths=(6, 12, 36, 24), growth=48, stem=96),
    densenet264d=dict(depths=(6, 12, 64, 48), growth=48, stem=96, first=deep),
    densenetblur121d=dict(depths=(6, 12, 24, 16), first=deep, pool=blurred),
)
def densenet(
    depths: Sequence[int],
    growth: int = 32,
    stem: int = 64,
    first: Callable[[int, int], nn.Module] = seven,
    pool: Callable[[], nn.Module] = max_pool,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    stem = Width(stem, "stem")
    stages = [DenseStage(stem, depths[0], growth, pool(), drop_path_rate)]
    for depth in depths[1:]:
        wide = stages[-1].width
        half = Width(wide // 2, "dim")
        stages.append(DenseStage(half, depth, growth, halve(wide, half), drop_path_rate))
    widths = [stem, *[stage.width for stage in stages]]
    backbone = Pyramid(first(in_chans, stem), stages, widths, [2, 4, 8, 16, 32])
    norm = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True))
    net = Network(backbone, Classifier(widths[-1], num_classes, before=norm, drop=drop_rate))
    initialise(net, conv=nn.init.kaiming_normal_)
    return net


# Published stages are numbered from 1, transitions belong to the stage behind them.
TIMM = """
    features.conv0                             -> backbone.stem.conv
    features.norm0                             -> backbone.stem.norm
    features.denseblock{s}.denselayer{b}       -> backbone.stages.{s-1}.blocks.{b-1}
    features.transition{s}.norm                -> backbone.stages.{s}.down.0
    features.transition{s}.conv                -> backbone.stages.{s}.down.2
    features.norm5                             -> head.before.0
    classifier                                 -> head.fc
"""
TIMM_D = (
    """
    features.norm5                             -> head.before.0
    features.conv{i}                           -> backbone.stem.{i}.conv
    features.norm{i}                           -> backbone.stem.{i}.norm
"""
    + TIMM
)
