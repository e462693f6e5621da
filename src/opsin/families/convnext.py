"""ConvNeXt: a ResNet brought up to the habits of transformers. Liu et al., 2022, arXiv:2201.03545

Depthwise 7x7 convolutions mix places, a wide pointwise pair mixes channels, one LayerNorm a block, patchified stem.
V2 (Woo et al., 2023, arXiv:2301.00808) lets channels compete in the pointwise pair, in place of LayerScale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..channels.mlp import Mlp
from ..channels.response import ResponseMlp
from ..layers import DropPath, LayerNorm, Scale, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..layers.norm import RMSNorm, StdNorm
from ..registry import about, family
from ..width import Width, each

Norm = Callable[..., nn.Module]
Make = Callable[[int], nn.Module]


class ConvNeXtBlock(nn.Module):
    """x + drop(scale(mlp(norm(depthwise 7x7(x)))))"""

    def __init__(
        self, dim: int, kernel: int = 7, drop: float = 0.0, norm: Norm = LayerNorm, mlp: Make = Mlp, scale: Make = Scale
    ):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm, self.mlp = norm(dim), mlp(dim)
        self.scale, self.drop = scale(dim), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).movedim(1, -1)
        y = self.scale(self.mlp(self.norm(y)))
        return x + self.drop(y.movedim(-1, 1))


def patches(in_chans: int, dim: int) -> list[nn.Module]:
    return [nn.Conv2d(in_chans, dim, 4, 4)]


def overlapping(in_chans: int, dim: int, hidden: int) -> list[nn.Module]:
    hidden = Width(hidden, "stem")
    return [nn.Conv2d(in_chans, hidden, 3, 2, 1), nn.Conv2d(hidden, dim, 3, 2, 1)]


def active(in_chans: int, dim: int, hidden: int) -> list[nn.Module]:
    first, second = overlapping(in_chans, dim, hidden)
    return [first, GELU(), second]


def halve(cin: int, cout: int, norm: Norm = LayerNorm) -> nn.Module:
    return nn.Sequential(norm(cin, dim=1), nn.Conv2d(cin, cout, 2, 2))


def after(dim: int, num_classes: int, norm: Norm, drop: float) -> nn.Module:
    return Classifier(dim, num_classes, after=norm(dim), drop=drop)


def before(dim: int, num_classes: int, norm: Norm, drop: float) -> nn.Module:
    return Classifier(dim, num_classes, before=norm(dim, dim=1), drop=drop)


def hidden_layer(dim: int, num_classes: int, norm: Norm, drop: float) -> nn.Module:
    hidden = Width(dim, "head")
    return Classifier(hidden, num_classes, after=nn.Sequential(norm(dim), nn.Linear(dim, hidden), GELU()), drop=drop)


ATTO = dict(depths=(2, 2, 6, 2), dims=(40, 80, 160, 320))
FEMTO = dict(depths=(2, 2, 6, 2), dims=(48, 96, 192, 384))
PICO = dict(depths=(2, 2, 6, 2), dims=(64, 128, 256, 512))
NANO = dict(depths=(2, 2, 8, 2), dims=(80, 160, 320, 640))
TINY = dict(depths=(3, 3, 9, 3), dims=(96, 192, 384, 768))
SMALL = dict(depths=(3, 3, 27, 3), dims=(96, 192, 384, 768))
BASE = dict(depths=(3, 3, 27, 3), dims=(128, 256, 512, 1024))
LARGE = dict(depths=(3, 3, 27, 3), dims=(192, 384, 768, 1536))
ZEPTO = dict(depths=(2, 2, 4, 2), dims=(32, 64, 128, 256), norm=StdNorm)
V2: dict[str, Any] = dict(
    mlp=ResponseMlp,
    scale=nn.Identity,
    arxiv="2301.00808",
    title="ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders",
)


@family(
    about(title="A ConvNet for the 2020s", arxiv="2201.03545", licence="MIT"),
    convnext_zepto_rms=dict(**ZEPTO),
    convnext_zepto_rms_ols=dict(**ZEPTO, embed=partial(active, hidden=32)),
    convnext_atto=dict(**ATTO),
    convnext_atto_ols=dict(**ATTO, embed=partial(overlapping, hidden=24)),
    convnext_atto_rms=dict(**ATTO, norm=RMSNorm),
    convnext_femto=dict(**FEMTO),
    convnext_femto_ols=dict(**FEMTO, embed=partial(overlapping, hidden=24)),
    convnext_pico=dict(**PICO),
    convnext_pico_ols=dict(**PICO, embed=partial(overlapping, hidden=32)),
    convnext_nano=dict(**NANO),
    convnext_nano_ols=dict(**NANO, embed=partial(overlapping, hidden=80)),
    convnext_tiny=dict(**TINY),
    convnext_tiny_hnf=dict(**TINY, head=before),
    convnext_small=dict(**SMALL),
    convnext_base=dict(**BASE),
    convnext_large=dict(**LARGE),
    convnext_large_mlp=dict(**LARGE, head=hidden_layer, native=320),
    convnext_xlarge=dict(depths=(3, 3, 27, 3), dims=(256, 512, 1024, 2048)),
    convnext_xxlarge=dict(depths=(3, 4, 30, 3), dims=(384, 768, 1536, 3072), eps=1e-5, native=256),
    convnextv2_atto=dict(**ATTO, **V2),
    convnextv2_femto=dict(**FEMTO, **V2),
    convnextv2_pico=dict(**PICO, **V2),
    convnextv2_nano=dict(**NANO, **V2),
    convnextv2_tiny=dict(**TINY, **V2),
    convnextv2_small=dict(**SMALL, **V2),
    convnextv2_base=dict(**BASE, **V2),
    convnextv2_large=dict(**LARGE, **V2),
    convnextv2_huge=dict(depths=(3, 3, 27, 3), dims=(352, 704, 1408, 2816), **V2),
)
def convnext(
    depths: Sequence[int],
    dims: Sequence[int],
    embed: Callable[[int, int], list[nn.Module]] = patches,
    norm: Norm = LayerNorm,
    eps: float = 1e-6,
    mlp: Make = Mlp,
    scale: Make = Scale,
    head: Callable[..., nn.Module] = after,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dims, drop, norm = each(*dims), ramp(drop_path_rate, sum(depths)), partial(norm, eps=eps)

    first = nn.Sequential(*embed(in_chans, dims[0]), norm(dims[0], dim=1))
    stages = [
        Stage(
            [ConvNeXtBlock(dims[i], 7, next(drop), norm, mlp, scale) for _ in range(depth)],
            halve(dims[i - 1], dims[i], norm) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    backbone = Pyramid(first, stages, [dims[0], *dims], [4, 4, 8, 16, 32])
    net = Network(backbone, head(dims[-1], num_classes, norm, drop_rate))
    initialise(net, conv=trunc02, linear=trunc02)
    return net


COMMON = """
    stem                              -> backbone.stem
    stages.{s}.downsample             -> backbone.stages.{s}.down
    stages.{s}.blocks.{b}.conv_dw     -> backbone.stages.{s}.blocks.{b}.dwconv
    stages.{s}.blocks.{b}.mlp.grn     -> backbone.stages.{s}.blocks.{b}.mlp.norm
    stages.{s}.blocks.{b}.gamma       -> backbone.stages.{s}.blocks.{b}.scale.gamma
    stages.{s}.blocks.{b}             -> backbone.stages.{s}.blocks.{b}
    norm_pre                          -> head.before
    head.fc                           -> head.fc
"""
TIMM = (
    COMMON
    + """
    head.norm                         -> head.after
"""
)
TIMM_HIDDEN = (
    COMMON
    + """
    head.norm                         -> head.after.0
    head.pre_logits.fc                -> head.after.1
"""
)
