"""SE-ResNet and SE-ResNeXt: gates on every residual branch. Hu et al., 2017, arXiv:1709.01507

Each block ends in squeeze-excitation to a sixteenth of its channels, before its input is added. The forms in the
authors' own arrangement, and SENet-154, are in `senet`; the suffixes are those of `resnet_d`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network
from ..blocks.residual import averaged
from ..layers import SqueezeExcite
from ..registry import about, family, rounded
from .resnet import DEEP, assemble, basic, bottleneck, max_pool, seven
from .resnet import TIMM as RESNET
from .resnet_d import AVERAGED, SHALLOW, STEM, deep, mean_pool, smooth


def squeeze(dim: int) -> nn.Module:
    """Gates of a sixteenth, a multiple of eight channels."""
    return SqueezeExcite(dim, rounded(dim / 16, floor=0))


SE = partial(bottleneck, gate=squeeze)
SE_D = partial(SE, project=averaged)
X4, X8 = dict(groups=32, base=128), dict(groups=32, base=256)
D = dict(stem=deep, block=SE_D)
T = dict(stem=partial(deep, a=24), block=SE_D)
AA = dict(stem=deep, pool=mean_pool, multiple=32)  # poolings leave out odd edges that shortcuts keep


@family(
    about(title="Squeeze-and-Excitation Networks", arxiv="1709.01507", licence="Apache-2.0", dilates=True),
    seresnet18=dict(depths=(2, 2, 2, 2), dims=SHALLOW, block=partial(basic, gate=squeeze)),
    seresnet34=dict(depths=(3, 4, 6, 3), dims=SHALLOW, block=partial(basic, gate=squeeze)),
    seresnet50=dict(depths=(3, 4, 6, 3)),
    seresnet101=dict(depths=(3, 4, 23, 3)),
    seresnet152=dict(depths=(3, 8, 36, 3)),
    seresnet50t=dict(depths=(3, 4, 6, 3), **T),
    seresnet152d=dict(depths=(3, 8, 36, 3), native=256, **D),
    seresnet200d=dict(depths=(3, 24, 36, 3), native=256, **D),
    seresnet269d=dict(depths=(3, 30, 48, 8), native=256, **D),
    seresnetaa50d=dict(depths=(3, 4, 6, 3), block=partial(smooth, block=SE_D), **AA),
    seresnext50_32x4d=dict(depths=(3, 4, 6, 3), block=partial(SE, **X4)),
    seresnext101_32x4d=dict(depths=(3, 4, 23, 3), block=partial(SE, **X4)),
    seresnext101_32x8d=dict(depths=(3, 4, 23, 3), block=partial(SE, **X8)),
    seresnext101_64x4d=dict(depths=(3, 4, 23, 3), block=partial(SE, groups=64, base=256)),
    seresnext26d_32x4d=dict(depths=(2, 2, 2, 2), stem=deep, block=partial(SE_D, **X4)),
    seresnext26t_32x4d=dict(depths=(2, 2, 2, 2), stem=partial(deep, a=24), block=partial(SE_D, **X4)),
    seresnext101d_32x8d=dict(depths=(3, 4, 23, 3), stem=deep, block=partial(SE_D, **X8)),
    seresnextaa101d_32x8d=dict(
        depths=(3, 4, 23, 3), block=partial(smooth, block=partial(SE_D, **X8)), native=288, **AA
    ),
    seresnextaa201d_32x8d=dict(
        depths=(3, 24, 36, 4),
        block=partial(smooth, block=partial(SE_D, **X8)),
        stem=partial(deep, a=64, b=64),
        first=128,
        pool=mean_pool,
        native=384,
    ),
)
def seresnet(
    depths: Sequence[int],
    dims: Sequence[int] = DEEP,
    block: Callable[..., nn.Module] = SE,
    stem: Callable[[int, int], nn.Module] = seven,
    first: int = 64,
    pool: Callable[[int], nn.Module] = max_pool,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    return assemble(depths, dims, block, stem, first, pool, **more)


GATES = """
    layer{s}.{b}.se.fc1          -> backbone.stages.{s-1}.blocks.{b}.gate.reduce
    layer{s}.{b}.se.fc2          -> backbone.stages.{s-1}.blocks.{b}.gate.expand
"""
TIMM, TIMM_D = GATES + RESNET, GATES + STEM + AVERAGED + RESNET
