"""MobileNetV1: depthwise and 1x1 convolutions by turns, thinned by one factor. Howard et al., 2017, arXiv:1704.04861

`wide` is the paper's width multiplier; its resolution multiplier is the size of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import Conv, relu6
from ..layers.init import initialise, kaiming_out
from ..registry import about, family, rounded
from ..width import Width

STAGES = ((64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024))


class Separable(nn.Module):
    """project(dwconv(x)), an activation behind both"""

    def __init__(self, cin: int, cout: int, stride: int = 1, part: Callable[..., nn.Module] = Conv):
        super().__init__()
        self.dwconv, self.project = part(cin, cin, 3, stride, groups=cin), part(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.dwconv(x))


@family(
    about(
        title="MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
        arxiv="1704.04861",
        licence="Apache-2.0",
        dilates=True,
    ),
    mobilenetv1_025=dict(wide=0.25),
    mobilenetv1_050=dict(wide=0.5),
    mobilenetv1_075=dict(wide=0.75),
    mobilenetv1_100=dict(wide=1.0),
    mobilenetv1_125=dict(wide=1.25),
    mobilenetv1_100h=dict(wide=1.0, last=1024),
)
def mobilenet_v1(
    wide: float = 1.0,
    last: int | None = None,
    stages: Sequence[Sequence[int]] = STAGES,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
) -> Network:
    """`last` adds a 1x1 convolution to so many channels behind the blocks."""
    part = partial(Conv, act=relu6)
    stem = Width(rounded(32 * wide), "stem")
    dims = [[Width(rounded(dim * wide), "dim") for dim in stage] for stage in stages]
    ends = [stem, *[stage[-1] for stage in dims]]
    made = [
        Stage(Separable(a, b, 2 if i and not j else 1, part) for j, (a, b) in enumerate(pairwise([cin, *stage])))
        for i, (cin, stage) in enumerate(zip(ends, dims))
    ]
    backbone = Pyramid(part(in_chans, stem, 3, 2), made, ends, [2, *[2 ** (i + 1) for i in range(len(dims))]])
    head = Width(last, "head") if last else ends[-1]
    before = part(ends[-1], head, 1) if last else None
    net = Network(backbone, Classifier(head, num_classes, before=before, drop=drop_rate))
    initialise(net, conv=kaiming_out, linear=partial(nn.init.normal_, std=0.01))
    return net


TIMM = """
    conv_stem                   -> backbone.stem.conv
    bn1                         -> backbone.stem.norm
    blocks.{s}.{b}.conv_dw      -> backbone.stages.{s}.blocks.{b}.dwconv.conv
    blocks.{s}.{b}.bn1          -> backbone.stages.{s}.blocks.{b}.dwconv.norm
    blocks.{s}.{b}.conv_pw      -> backbone.stages.{s}.blocks.{b}.project.conv
    blocks.{s}.{b}.bn2          -> backbone.stages.{s}.blocks.{b}.project.norm
    conv_head                   -> head.before.conv
    bn2                         -> head.before.norm
    classifier                  -> head.fc
"""
