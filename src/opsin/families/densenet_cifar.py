"""DenseNet and DenseNet-BC for images of 32 pixels. Huang et al., 2016, arXiv:1608.06993"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid
from ..errors import OpsinError
from ..layers import DropPath
from ..layers.init import initialise
from ..registry import about, family
from ..width import Width
from .densenet import DenseLayer, DenseStage, halve


class PlainLayer(nn.Module):
    """[x, conv1(relu(norm1(x)))]: a 3x3 to the growth"""

    def __init__(self, cin: int, growth: int, drop: float = 0.0):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(cin), nn.Conv2d(cin, growth, 3, padding=1, bias=False)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.drop(self.conv1(F.relu(self.norm1(x), inplace=True)))], 1)


PLAIN = dict(layer=PlainLayer, stem=16, keeps=1.0)


@family(
    about(title="Densely Connected Convolutional Networks", arxiv="1608.06993", licence="MIT", native=32),
    densenet40_k12_cifar=dict(layers=40, growth=12, **PLAIN),
    densenet100_k12_cifar=dict(layers=100, growth=12, **PLAIN),
    densenet100_k24_cifar=dict(layers=100, growth=24, **PLAIN),
    densenet40_k12_bc_cifar=dict(layers=40, growth=12),
    densenet100_k12_bc_cifar=dict(layers=100, growth=12),
    densenet190_k40_bc_cifar=dict(layers=190, growth=40),
    densenet250_k24_bc_cifar=dict(layers=250, growth=24),
)
def densenet_cifar(
    layers: int,
    growth: int,
    layer: Callable[..., nn.Module] = DenseLayer,
    stem: int | None = None,
    keeps: float = 0.5,
    num_classes: int = 10,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Three stages; a transition `keeps` that share of the channels. `stem` is twice the growth where not given.

    Raises:
        OpsinError: no such number of layers.
    """
    units, rest = divmod(layers - 4, 3 if layer is PlainLayer else 6)
    if units < 1 or rest:
        raise OpsinError(f"three stages do not make {layers} layers: 3n + 4 of plain ones, 6n + 4 of BC")
    wide = Width(stem or 2 * growth, "stem")
    stages = [DenseStage(wide, units, growth, nn.Identity(), drop_path_rate, layer)]
    for _ in range(2):
        before = stages[-1].width
        kept = Width(int(before * keeps), "dim")
        stages.append(DenseStage(kept, units, growth, halve(before, kept), drop_path_rate, layer))
    widths = [wide, *[stage.width for stage in stages]]
    backbone = Pyramid(nn.Conv2d(in_chans, wide, 3, padding=1, bias=False), stages, widths, [1, 1, 2, 4])
    norm = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True))
    net = Network(backbone, Classifier(widths[-1], num_classes, before=norm, drop=drop_rate))
    initialise(net, conv=nn.init.kaiming_normal_)
    return net


SPARSENET = """
    features.conv0                         -> backbone.stem
    features.dense-stage-{s}.block-{b}.bn{i}   -> backbone.stages.{s}.blocks.{b-1}.norm{i}
    features.dense-stage-{s}.block-{b}.conv{i} -> backbone.stages.{s}.blocks.{b-1}.conv{i}
    features.transition-{s}.bn1            -> backbone.stages.{s+1}.down.0
    features.transition-{s}.conv1          -> backbone.stages.{s+1}.down.2
    features.norm_last                     -> head.before.0
    classifier.linear                      -> head.fc
"""
PYTORCHCV = """
    features.init_block                         -> backbone.stem
    features.stage{s}.trans{t}.conv.bn          -> backbone.stages.{s-1}.down.0
    features.stage{s}.trans{t}.conv.conv        -> backbone.stages.{s-1}.down.2
    features.stage{s}.unit{u}.conv{i}.bn        -> backbone.stages.{s-1}.blocks.{u-1}.norm{i}
    features.stage{s}.unit{u}.conv{i}.conv      -> backbone.stages.{s-1}.blocks.{u-1}.conv{i}
    features.post_activ.bn                      -> head.before.0
    output                                      -> head.fc
"""
