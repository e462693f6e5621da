"""SENet in its authors' arrangement, SENet-154 among it. Hu et al., 2017, arXiv:1709.01507

Against `seresnet`: the stem's pooling is unpadded, strides sit in a bottleneck's first 1x1, gates are exactly a
sixteenth. SENet-154 is a ResNeXt-152 of 64 groups whose first 1x1 is half as wide, with a deep stem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network
from ..layers import Conv, SqueezeExcite, relu
from ..registry import about, family
from ..width import Groups, Width
from .resnet import DEEP, assemble, basic, bottleneck, max_pool, seven
from .resnet import TIMM as RESNET
from .resnet_d import SHALLOW, STEM, deep
from .seresnet import GATES


def squeeze(dim: int) -> nn.Module:
    return SqueezeExcite(dim, dim // 16)


def unpadded(width: int) -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def early(cin: int, cout: int, stride: int, drop: float, **more: Any) -> nn.Module:
    """A bottleneck with the stride in its first 1x1."""
    made: Any = bottleneck(cin, cout, stride, drop, **more)
    first, second = made.conv1.conv, made.conv2.conv
    first.stride, second.stride = second.stride, first.stride
    return made


def rectified(cin: int, cout: int, stride: int, drop: float) -> nn.Module:
    """A basic block with an activation before its gate too."""
    made: Any = basic(cin, cout, stride, drop, gate=squeeze)
    made.conv2.act = relu()
    return made


def wide_shortcut(cin: int, cout: int, stride: int) -> nn.Module:
    """3x3 where the resolution changes."""
    return Conv(cin, cout, 1 if stride == 1 else 3, stride, act=None) if cin is not cout else nn.Identity()


def halved(cin: int, cout: int, stride: int, drop: float, groups: int = 64) -> nn.Module:
    """SENet-154's bottleneck: its first 1x1 makes half of what its grouped 3x3 makes."""
    made: Any = bottleneck(cin, cout, stride, drop, groups, base=256, gate=squeeze, project=wide_shortcut)
    both = made.conv3.conv.in_channels
    half = Groups(both.parts[0], Width(both.parts[1] // 2, "reduced"))
    made.conv1, made.conv2 = Conv(cin, half, 1), Conv(half, both, 3, stride, both.parts[0])
    return made


SE, SE_EARLY = partial(bottleneck, gate=squeeze), partial(early, gate=squeeze)
SE154 = dict(depths=(3, 8, 36, 3), block=halved, stem=partial(deep, a=64, b=64), first=128)
PAPER: dict[str, Any] = dict(title="Squeeze-and-Excitation Networks", arxiv="1709.01507", licence="Apache-2.0")


@family(
    about(**PAPER),
    legacy_seresnet18=dict(depths=(2, 2, 2, 2), dims=SHALLOW, block=rectified),
    legacy_seresnet34=dict(depths=(3, 4, 6, 3), dims=SHALLOW, block=rectified),
    legacy_seresnet50=dict(depths=(3, 4, 6, 3)),
    legacy_seresnet101=dict(depths=(3, 4, 23, 3)),
    legacy_seresnet152=dict(depths=(3, 8, 36, 3)),
    legacy_seresnext26_32x4d=dict(depths=(2, 2, 2, 2), block=partial(SE, groups=32, base=128)),
    legacy_seresnext50_32x4d=dict(depths=(3, 4, 6, 3), block=partial(SE, groups=32, base=128)),
    legacy_seresnext101_32x4d=dict(depths=(3, 4, 23, 3), block=partial(SE, groups=32, base=128)),
    legacy_senet154=SE154,
)
@family(about(**PAPER, dilates=True), senet154=dict(**SE154, pool=max_pool))
def senet(
    depths: Sequence[int],
    dims: Sequence[int] = DEEP,
    block: Callable[..., nn.Module] = SE_EARLY,
    stem: Callable[[int, int], nn.Module] = seven,
    first: int = 64,
    pool: Callable[[int], nn.Module] = unpadded,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    return assemble(depths, dims, block, stem, first, pool, **more)


TIMM = GATES + STEM + RESNET
LEGACY = (
    """
    layer{s}.{b}.se_module.fc1   -> backbone.stages.{s-1}.blocks.{b}.gate.reduce
    layer{s}.{b}.se_module.fc2   -> backbone.stages.{s-1}.blocks.{b}.gate.expand
    layer0.conv1                 -> backbone.stem.conv
    layer0.bn1                   -> backbone.stem.norm
    last_linear                  -> head.fc
"""
    + RESNET
)
LEGACY_154 = (
    """
    layer0.conv{i}               -> backbone.stem.{i-1}.conv
    layer0.bn{i}                 -> backbone.stem.{i-1}.norm
"""
    + LEGACY
)
