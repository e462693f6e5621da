"""Wide ResNet for images of 32 pixels: more channels in place of more layers. Zagoruyko, 2016, arXiv:1605.07146"""

from __future__ import annotations

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..errors import OpsinError
from ..layers import DropPath, ramp
from ..layers.init import initialise
from ..registry import about, family
from ..width import Width, same


def conv(cin: int, cout: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)


def norm(width: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class WideBlock(nn.Module):
    """conv2(drop(norm2(conv1(y)))) + shortcut, y = norm1(x); the shortcut is x, or a projection of y"""

    def __init__(self, cin: int, cout: int, stride: int, dropout: float = 0.0, drop: float = 0.0):
        super().__init__()
        hidden = Width(cout, "hidden")
        self.norm1, self.conv1 = nn.Sequential(nn.BatchNorm2d(cin), nn.ReLU()), conv(cin, hidden, 3, stride)
        self.norm2, self.conv2 = norm(hidden), conv(hidden, cout)
        self.dropout, self.drop = nn.Dropout(dropout), DropPath(drop)
        self.project = None if same(cin, cout) else conv(cin, cout, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        shortcut = x if self.project is None else self.project(y)
        return self.drop(self.conv2(self.dropout(self.norm2(self.conv1(y))))) + shortcut


@family(
    about(title="Wide Residual Networks", arxiv="1605.07146", licence="MIT", native=32),
    wrn_16_1_cifar=dict(layers=16, wide=1),
    wrn_16_4_cifar=dict(layers=16, wide=4),
    wrn_16_8_cifar=dict(layers=16, wide=8),
    wrn_22_8_cifar=dict(layers=22, wide=8),
    wrn_28_10_cifar=dict(layers=28, wide=10),
    wrn_28_12_cifar=dict(layers=28, wide=12),
    wrn_40_1_cifar=dict(layers=40, wide=1),
    wrn_40_2_cifar=dict(layers=40, wide=2),
    wrn_40_4_cifar=dict(layers=40, wide=4),
)
def wide_resnet(
    layers: int,
    wide: float,
    dropout: float = 0.0,
    num_classes: int = 10,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """WRN-`layers`-`wide`: `layers` = 6n + 4 for n blocks a stage; `dropout` between a block's convolutions.

    Raises:
        OpsinError: no such number of layers.
    """
    blocks, rest = divmod(layers - 4, 6)
    if blocks < 1 or rest:
        raise OpsinError(f"a Wide ResNet has 6n + 4 layers, not {layers}: take {6 * max(blocks, 1) + 4}")
    drop, stem = ramp(drop_path_rate, 3 * blocks), Width(16, "stem")
    widths = [stem]
    for size in (16, 32, 64):
        widths.append(stem if int(size * wide) == 16 else Width(int(size * wide), "dim"))

    def stage(i: int) -> nn.Module:
        cin, cout = widths[i], widths[i + 1]
        strides = [2 if i else 1] + [1] * (blocks - 1)
        return Stage(WideBlock(cout if j else cin, cout, s, dropout, next(drop)) for j, s in enumerate(strides))

    backbone = Pyramid(conv(in_chans, stem), [stage(i) for i in range(3)], widths, [1, 1, 2, 4])
    net = Network(backbone, Classifier(widths[-1], num_classes, before=norm(widths[-1]), drop=drop_rate))
    initialise(net, conv=nn.init.kaiming_normal_, linear=nn.init.kaiming_normal_)
    return net


AUTHORS = """
    conv0                    -> backbone.stem.weight
    group{s}.block{b}.conv0   -> backbone.stages.{s}.blocks.{b}.conv1.weight
    group{s}.block{b}.conv1   -> backbone.stages.{s}.blocks.{b}.conv2.weight
    group{s}.block{b}.convdim -> backbone.stages.{s}.blocks.{b}.project.weight
    group{s}.block{b}.bn{i}   -> backbone.stages.{s}.blocks.{b}.norm{i+1}.0
    bn                       -> head.before.0
    fc                       -> head.fc
"""
