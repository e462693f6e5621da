"""CLIP: ViTs that learn from pictures and their captions. Radford et al., 2021, arXiv:2103.00020

The tower for images, with a classifier in place of the projection beside the text's: a norm before the first block,
patches without a bias. OpenAI's own weights have QuickGELU, those of OpenCLIP (arXiv:2212.07143) GELU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network, PreNorm
from ..blocks.tokens import FirstToken, NormedTokens, TokenClassifier
from ..channels.mlp import Mlp
from ..layers import LayerNorm
from ..layers.act import GELU, QuickGelu
from ..mixers.attention import Attention
from ..registry import about, family
from .vit import SIZES, assemble
from .vit import TIMM as VIT

QUICK = dict(act=QuickGelu)
SIZE: dict[str, dict[str, Any]] = {
    **SIZES,
    "xsmall": dict(dim=256, depth=10, heads=4),
    "betwixt": dict(dim=640, depth=12, heads=10),
    "plus": dict(dim=896, depth=12, heads=14),
}


def at(size: str, patch: int, pixels: int, **more: Any) -> dict[str, Any]:
    return {**SIZE[size], "patch": patch, "img_size": pixels, "native": pixels, "multiple": patch, **more}


def token(dim: int, num_classes: int, drop: float, leading: int = 0) -> nn.Module:
    return TokenClassifier(dim, num_classes, before=LayerNorm(dim, eps=1e-5), pool=FirstToken(), drop=drop)


def bare(in_chans: int, dim: int, patch: int) -> nn.Module:
    return nn.Conv2d(in_chans, dim, patch, patch, bias=False)


@family(
    about(
        title="Learning Transferable Visual Models From Natural Language Supervision",
        arxiv="2103.00020",
        licence="MIT",
    ),
    vit_xsmall_patch16_clip_224=at("xsmall", 16, 224),
    vit_medium_patch32_clip_224=at("medium", 32, 224),
    vit_medium_patch16_clip_224=at("medium", 16, 224),
    vit_betwixt_patch32_clip_224=at("betwixt", 32, 224),
    vit_base_patch32_clip_224=at("base", 32, 224),
    vit_base_patch32_clip_256=at("base", 32, 256),
    vit_base_patch32_clip_384=at("base", 32, 384),
    vit_base_patch32_clip_448=at("base", 32, 448),
    vit_base_patch16_clip_224=at("base", 16, 224),
    vit_base_patch16_clip_384=at("base", 16, 384),
    vit_base_patch16_plus_clip_240=at("plus", 16, 240),
    vit_large_patch14_clip_224=at("large", 14, 224),
    vit_large_patch14_clip_336=at("large", 14, 336),
    vit_huge_patch14_clip_224=at("huge", 14, 224),
    vit_huge_patch14_clip_336=at("huge", 14, 336),
    vit_huge_patch14_clip_378=at("huge", 14, 378),
    vit_giant_patch14_clip_224=at("giant", 14, 224),
    vit_gigantic_patch14_clip_224=at("gigantic", 14, 224),
    vit_gigantic_patch14_clip_378=at("gigantic", 14, 378),
    vit_base_patch32_clip_quickgelu_224=at("base", 32, 224, **QUICK),
    vit_base_patch16_clip_quickgelu_224=at("base", 16, 224, **QUICK),
    vit_large_patch14_clip_quickgelu_224=at("large", 14, 224, **QUICK),
    vit_large_patch14_clip_quickgelu_336=at("large", 14, 336, **QUICK),
    vit_huge_patch14_clip_quickgelu_224=at("huge", 14, 224, **QUICK),
    vit_huge_patch14_clip_quickgelu_378=at("huge", 14, 378, **QUICK),
    vit_gigantic_patch14_clip_quickgelu_224=at("gigantic", 14, 224, **QUICK),
)
def clip(
    dim: int,
    depth: int,
    heads: int,
    patch: int = 16,
    ratio: float = 4.0,
    act: Callable[[], nn.Module] = GELU,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    def block(width: int, drop: float) -> nn.Module:
        return PreNorm(width, Attention(width, heads), Mlp(width, ratio, act), drop, eps=1e-5)

    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    body = partial(NormedTokens, norm=partial(LayerNorm, eps=1e-5))
    return assemble(dim, depth, block, token, patch, stem=bare, body=body, img_size=img_size, **more)


TIMM = "norm_pre -> backbone.norm" + VIT
