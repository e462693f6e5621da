"""ResNet-C and -D: a stem of three 3x3, and shortcuts that see every pixel. He et al., 2018, arXiv:1812.01187

The stem's 7x7 becomes three 3x3 (C; S with twice the channels, T with tiers of them); in D a strided shortcut averages
before it projects. In AA and Blur the strided 3x3 becomes a dense one with a pooling behind it, which does not alias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network
from ..blocks.residual import averaged
from ..layers import AveragePool, BlurPool, Conv
from ..registry import about, family
from ..width import Width
from .resnet import DEEP, assemble, basic, bottleneck, max_pool, seven
from .resnet import TIMM as RESNET

SHALLOW = (64, 128, 256, 512)


def deep(cin: int, cout: int, a: int = 32, b: int = 32) -> nn.Module:
    """Three 3x3 convolutions, the first with stride 2, to a, b and the stem's channels"""
    a, b = Width(a, "stem1"), Width(b, "stem2")
    return nn.Sequential(Conv(cin, a, 3, 2), Conv(a, b), Conv(b, cout))


def smooth(
    cin: int,
    cout: int,
    stride: int,
    drop: float,
    block: Callable[..., nn.Module] = bottleneck,
    pool: Callable[[], nn.Module] = AveragePool,
    **more: Any,
) -> nn.Module:
    """A block whose 3x3 convolution sees every pixel; the pooling behind it takes the stride."""
    made: Any = block(cin, cout, stride, drop, **more)
    for conv in (made.conv1, made.conv2):
        if conv.conv.stride != (1, 1):
            conv.conv.stride, conv.pool = (1, 1), pool()
    return made


def mean_pool(width: int) -> nn.Module:
    return AveragePool()


def blurred_pool(width: int) -> nn.Module:
    return nn.Sequential(nn.MaxPool2d(3, 1, 1), BlurPool())


D = partial(bottleneck, project=averaged)
BASIC = partial(basic, project=averaged)
S = dict(stem=partial(deep, a=64, b=64), first=128, block=bottleneck)
C, T = dict(block=bottleneck), dict(stem=partial(deep, a=24))
AA = dict(pool=mean_pool, multiple=32)  # poolings leave out odd edges that shortcuts keep
BLUR = dict(pool=blurred_pool)


@family(
    about(
        title="Bag of Tricks for Image Classification with Convolutional Neural Networks",
        arxiv="1812.01187",
        licence="Apache-2.0",
        dilates=True,
    ),
    resnet10t=dict(depths=(1, 1, 1, 1), dims=SHALLOW, block=BASIC, native=176, **T),
    resnet14t=dict(depths=(1, 1, 1, 1), native=176, **T),
    resnet26t=dict(depths=(2, 2, 2, 2), native=256, **T),
    resnet50t=dict(depths=(3, 4, 6, 3), **T),
    resnet18d=dict(depths=(2, 2, 2, 2), dims=SHALLOW, block=BASIC),
    resnet34d=dict(depths=(3, 4, 6, 3), dims=SHALLOW, block=BASIC),
    resnet26d=dict(depths=(2, 2, 2, 2)),
    resnet50d=dict(depths=(3, 4, 6, 3)),
    resnet101d=dict(depths=(3, 4, 23, 3), native=256),
    resnet152d=dict(depths=(3, 8, 36, 3), native=256),
    resnet200d=dict(depths=(3, 24, 36, 3), native=256),
    resnext50d_32x4d=dict(depths=(3, 4, 6, 3), block=partial(D, groups=32, base=128)),
    resnet50c=dict(depths=(3, 4, 6, 3), **C),
    resnet101c=dict(depths=(3, 4, 23, 3), **C),
    resnet152c=dict(depths=(3, 8, 36, 3), **C),
    resnet50s=dict(depths=(3, 4, 6, 3), **S),
    resnet101s=dict(depths=(3, 4, 23, 3), **S),
    resnet152s=dict(depths=(3, 8, 36, 3), **S),
    resnetaa34d=dict(depths=(3, 4, 6, 3), dims=SHALLOW, block=partial(smooth, block=BASIC), **AA),
    resnetaa50=dict(depths=(3, 4, 6, 3), block=smooth, stem=seven, **AA),
    resnetaa50d=dict(depths=(3, 4, 6, 3), block=partial(smooth, block=D), **AA),
    resnetaa101d=dict(depths=(3, 4, 23, 3), block=partial(smooth, block=D), **AA),
    resnetblur18=dict(
        depths=(2, 2, 2, 2), dims=SHALLOW, block=partial(smooth, block=basic, pool=BlurPool), stem=seven, **BLUR
    ),
    resnetblur50=dict(depths=(3, 4, 6, 3), block=partial(smooth, pool=BlurPool), stem=seven, **BLUR),
    resnetblur50d=dict(depths=(3, 4, 6, 3), block=partial(smooth, block=D, pool=BlurPool), **BLUR),
    resnetblur101d=dict(depths=(3, 4, 23, 3), block=partial(smooth, block=D, pool=BlurPool), **BLUR),
)
def resnet_d(
    depths: Sequence[int],
    dims: Sequence[int] = DEEP,
    block: Callable[..., nn.Module] = D,
    stem: Callable[[int, int], nn.Module] = deep,
    first: int = 64,
    pool: Callable[[int], nn.Module] = max_pool,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`stem(in_chans, first)` makes the first convolutions, `pool(first)` what halves their map."""
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    return assemble(depths, dims, block, stem, first, pool, **more)


STEM = """
    conv1.0                      -> backbone.stem.0.conv
    conv1.1                      -> backbone.stem.0.norm
    conv1.3                      -> backbone.stem.1.conv
    conv1.4                      -> backbone.stem.1.norm
    conv1.6                      -> backbone.stem.2.conv
    bn1                          -> backbone.stem.2.norm
"""
AVERAGED = """
    layer1.0.downsample.1        -> backbone.stages.0.blocks.0.shortcut.conv
    layer1.0.downsample.2        -> backbone.stages.0.blocks.0.shortcut.norm
    layer{s}.0.downsample.1      -> backbone.stages.{s-1}.blocks.0.shortcut.1.conv
    layer{s}.0.downsample.2      -> backbone.stages.{s-1}.blocks.0.shortcut.1.norm
"""
TIMM_D, TIMM_C, TIMM_PLAIN = STEM + AVERAGED + RESNET, STEM + RESNET, RESNET
