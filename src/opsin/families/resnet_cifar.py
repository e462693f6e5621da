"""ResNet for images of 32 pixels, with shortcuts that need no weights. He et al., 2015, section 4.2, arXiv:1512.03385

ResNeXt-29 (Xie et al., 2016, arXiv:1611.05431) fills the same three stages with bottlenecks whose 3x3 is split into
groups; the networks of 1,001 layers' paper (He et al., 2016, arXiv:1603.05027) with plain bottlenecks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..blocks.residual import Basic, Bottleneck, inner, shortcut
from ..errors import OpsinError
from ..layers import Conv, ramp
from ..layers.init import initialise, kaiming_out
from ..registry import about, family
from ..width import Concat, Width


class ZeroPad(nn.Module):
    """Every `stride`-th pixel, with channels of zeros in front and behind: option A of the paper"""

    def __init__(self, front: int, behind: int, stride: int):
        super().__init__()
        self.front, self.behind, self.stride = front, behind, stride

    def forward(self, x: Tensor) -> Tensor:
        thin = x[:, :, :: self.stride, :: self.stride]
        return F.pad(thin, (0, 0, 0, 0, int(self.front), int(self.behind)))


def padded(cin: int, cout: Any, stride: int) -> nn.Module:
    """The input itself where its shape is kept, else its pixels thinned out and zeros beside its channels."""
    return nn.Identity() if stride == 1 else ZeroPad(cout.parts[0], cout.parts[-1], stride)


def around(size: int, inner: Width) -> Width:
    """`size` channels, of which those in the middle are `inner`'s."""
    added = size - inner
    return Concat(Width(added // 2, "front"), inner, Width(added - added // 2, "behind"))


def free(size: int, inner: Width) -> Width:
    return Width(size, "dim")


def bottleneck(cin: int, cout: int, stride: int, drop: float = 0.0) -> nn.Module:
    return Bottleneck(cin, cout, stride, inner(cout // 4), drop)


def grouped(cin: int, cout: int, stride: int, drop: float = 0.0, groups: int = 32, base: int = 4) -> nn.Module:
    """`groups` of `base` channels in the first stage of ResNeXt-29, where 64 lie between the two 1x1."""
    if not (size := cout // 4 * base // 64):
        raise OpsinError(f"{cout} channels with a group of {base} in 64 leave groups of none: take wider groups")
    return Bottleneck(cin, cout, stride, inner(groups * size, groups), drop)


RESNEXT = dict(
    arxiv="1611.05431",
    title="Aggregated Residual Transformations for Deep Neural Networks",
    depths=(3, 3, 3),
    dims=(256, 512, 1024),
    stem=64,
    grow=free,
)


@family(
    about(title="Deep Residual Learning for Image Recognition", arxiv="1512.03385", licence="BSD-2-Clause", native=32),
    resnet20_cifar=dict(depths=(3, 3, 3)),
    resnet32_cifar=dict(depths=(5, 5, 5)),
    resnet44_cifar=dict(depths=(7, 7, 7)),
    resnet56_cifar=dict(depths=(9, 9, 9)),
    resnet110_cifar=dict(depths=(18, 18, 18)),
    resnet1202_cifar=dict(depths=(200, 200, 200)),
    resnet164_cifar=dict(depths=(18, 18, 18), dims=(64, 128, 256), block=bottleneck, grow=free),
    resnext29_32x4d_cifar=dict(**RESNEXT, block=grouped),
    resnext29_8x64d_cifar=dict(**RESNEXT, block=partial(grouped, groups=8, base=64)),
    resnext29_16x64d_cifar=dict(**RESNEXT, block=partial(grouped, groups=16, base=64)),
)
def resnet_cifar(
    depths: Sequence[int],
    dims: Sequence[int] = (16, 32, 64),
    stem: int = 16,
    block: Callable[..., nn.Module] = partial(Basic, project=padded),
    grow: Callable[[int, Width], Width] = around,
    num_classes: int = 10,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`block(cin, cout, stride, drop)` fills the stages; `grow(size, before)` is a stage's width, by the one before."""
    wide, drop = Width(stem, "stem"), ramp(drop_path_rate, sum(depths))
    widths = [wide]
    for size in dims:
        widths.append(widths[-1] if size == widths[-1] else grow(size, widths[-1]))

    def stage(i: int) -> nn.Module:
        cin, cout = widths[i], widths[i + 1]
        strides = [2 if i else 1] + [1] * (depths[i] - 1)
        return Stage(block(cout if j else cin, cout, stride, next(drop)) for j, stride in enumerate(strides))

    stages = [stage(i) for i in range(len(dims))]
    backbone = Pyramid(Conv(in_chans, wide, 3), stages, widths, [1, *[2**i for i in range(len(dims))]])
    net = Network(backbone, Classifier(widths[-1], num_classes, drop=drop_rate))
    initialise(net, conv=kaiming_out, linear=kaiming_out)
    return net


def option_b(cin: int, cout: int, stride: int, drop: float = 0.0) -> nn.Module:
    """A basic block whose shortcut is projected where its shape changes."""
    return Basic(cin, cout, stride, drop, project=shortcut)


AKAMASTER = """
    conv1                   -> backbone.stem.conv
    bn1                     -> backbone.stem.norm
    layer{s}.{b}.conv{i}    -> backbone.stages.{s-1}.blocks.{b}.conv{i}.conv
    layer{s}.{b}.bn{i}      -> backbone.stages.{s-1}.blocks.{b}.conv{i}.norm
    layer{s}.{b}.shortcut.0 -> backbone.stages.{s-1}.blocks.{b}.shortcut.conv
    layer{s}.{b}.shortcut.1 -> backbone.stages.{s-1}.blocks.{b}.shortcut.norm
    linear                  -> head.fc
"""
UNIT = """
    body.conv{i}.bn    -> conv{i}.norm
    body.conv{i}.conv  -> conv{i}.conv
    identity_conv.bn   -> shortcut.norm
    identity_conv.conv -> shortcut.conv
"""
PYTORCHCV = """
    features.init_block.bn                   -> backbone.stem.norm
    features.init_block.conv                 -> backbone.stem.conv
    features.stage{s}.unit{u}.body.conv{i}.bn    -> backbone.stages.{s-1}.blocks.{u-1}.conv{i}.norm
    features.stage{s}.unit{u}.body.conv{i}.conv  -> backbone.stages.{s-1}.blocks.{u-1}.conv{i}.conv
    features.stage{s}.unit{u}.identity_conv.bn   -> backbone.stages.{s-1}.blocks.{u-1}.shortcut.norm
    features.stage{s}.unit{u}.identity_conv.conv -> backbone.stages.{s-1}.blocks.{u-1}.shortcut.conv
    output                                   -> head.fc
"""
