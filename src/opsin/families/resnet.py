"""ResNet: residual blocks, so that depth helps. He et al., 2015, arXiv:1512.03385

ResNeXt (Xie et al., 2016, arXiv:1611.05431) splits the 3x3 into groups; Wide ResNet (Zagoruyko & Komodakis, 2016,
arXiv:1605.07146) doubles its width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..blocks.residual import Basic, Bottleneck, Size, inner
from ..layers import Conv, ramp
from ..layers.init import initialise, kaiming_out
from ..registry import about, family
from ..width import Width

DEEP = (256, 512, 1024, 2048)
RESNEXT = dict(arxiv="1611.05431", title="Aggregated Residual Transformations for Deep Neural Networks")
WIDE = dict(arxiv="1605.07146", title="Wide Residual Networks")


def basic(cin: int, cout: int, stride: int, drop: float, **more: Any) -> nn.Module:
    return Basic(cin, cout, stride, drop, **more)


def bottleneck(
    cin: int,
    cout: int,
    stride: int,
    drop: float,
    groups: int = 1,
    base: int = 64,
    size: Size = Width,
    **more: Any,
) -> nn.Module:
    """`base` is the inner width of the first stage, for all groups together."""
    return Bottleneck(cin, cout, stride, inner(cout * base // 256, groups, size), drop, **more)


@family(
    about(title="Deep Residual Learning for Image Recognition", arxiv="1512.03385", licence="MIT", dilates=True),
    resnet18=dict(block=basic, depths=(2, 2, 2, 2), dims=(64, 128, 256, 512)),
    resnet34=dict(block=basic, depths=(3, 4, 6, 3), dims=(64, 128, 256, 512)),
    resnet26=dict(depths=(2, 2, 2, 2)),
    resnet50=dict(depths=(3, 4, 6, 3)),
    resnet101=dict(depths=(3, 4, 23, 3)),
    resnet152=dict(depths=(3, 8, 36, 3)),
    resnet200=dict(depths=(3, 24, 36, 3)),
    resnext50_32x4d=dict(depths=(3, 4, 6, 3), block=partial(bottleneck, groups=32, base=128), **RESNEXT),
    resnext101_32x4d=dict(depths=(3, 4, 23, 3), block=partial(bottleneck, groups=32, base=128), **RESNEXT),
    resnext101_32x8d=dict(depths=(3, 4, 23, 3), block=partial(bottleneck, groups=32, base=256), **RESNEXT),
    resnext101_32x16d=dict(depths=(3, 4, 23, 3), block=partial(bottleneck, groups=32, base=512), **RESNEXT),
    resnext101_32x32d=dict(depths=(3, 4, 23, 3), block=partial(bottleneck, groups=32, base=1024), **RESNEXT),
    resnext101_64x4d=dict(depths=(3, 4, 23, 3), block=partial(bottleneck, groups=64, base=256), **RESNEXT),
    wide_resnet50_2=dict(depths=(3, 4, 6, 3), block=partial(bottleneck, base=128), **WIDE),
    wide_resnet101_2=dict(depths=(3, 4, 23, 3), block=partial(bottleneck, base=128), **WIDE),
)
def resnet(
    depths: Sequence[int],
    dims: Sequence[int] = DEEP,
    block: Callable[..., nn.Module] = bottleneck,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    return assemble(depths, dims, block, **more)


def seven(cin: int, cout: int) -> nn.Module:
    return Conv(cin, cout, 7, 2)


def max_pool(width: int) -> nn.Module:
    return nn.MaxPool2d(3, 2, 1)


def assemble(
    depths: Sequence[int],
    dims: Sequence[int],
    block: Callable[..., nn.Module],
    stem: Callable[[int, int], nn.Module] = seven,
    first: int = 64,
    pool: Callable[[int], nn.Module] = max_pool,
    size: Size = Width,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """A stem to `first` channels at stride 2, a pooling, four stages; `block(cin, cout, stride, drop)` fills them."""
    dims, drop = [size(dim, f"dim{i}") for i, dim in enumerate(dims, 1)], ramp(drop_path_rate, sum(depths))
    wide = dims[0] if dims[0] == first else size(first, "stem")  # the first basic block adds its input as it is
    stages = [
        Stage(
            [block(cout if j else cin, cout, 1 if j or not i else 2, next(drop)) for j in range(depth)],
            None if i else pool(wide),
        )
        for i, (cin, cout, depth) in enumerate(zip([wide, *dims], dims, depths))
    ]
    head = Classifier(dims[-1], num_classes, drop=drop_rate)
    net = Network(Pyramid(stem(in_chans, wide), stages, [wide, *dims], [2, 4, 8, 16, 32]), head)
    initialise(net.backbone, conv=kaiming_out)
    return net


TIMM = """
    conv1                        -> backbone.stem.conv
    bn1                          -> backbone.stem.norm
    layer{s}.{b}.conv{i}         -> backbone.stages.{s-1}.blocks.{b}.conv{i}.conv
    layer{s}.{b}.bn{i}           -> backbone.stages.{s-1}.blocks.{b}.conv{i}.norm
    layer{s}.{b}.downsample.0    -> backbone.stages.{s-1}.blocks.{b}.shortcut.conv
    layer{s}.{b}.downsample.1    -> backbone.stages.{s-1}.blocks.{b}.shortcut.norm
    fc                           -> head.fc
"""
