"""SigLIP: pictures and captions matched in pairs, one by one. Zhai et al., 2023, arXiv:2303.15343

A ViT without a class token, whose head is attention pooling; the `gap` forms read the mean instead. `so400m` is the
shape that costs least for what it can (Alabdulmohsin et al., 2023, arXiv:2305.13035).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network, PreNorm
from ..blocks.latent_pool import LatentPool
from ..blocks.pooling import OnGrid
from ..blocks.tokens import TokenClassifier
from ..channels.mlp import Mlp
from ..layers import LayerNorm
from ..layers.act import GELU
from ..mixers.attention import Attention
from ..registry import about, family
from .vit import SIZES, assemble, mean
from .vit import TIMM as VIT

Act = Callable[[], nn.Module]
SIZE: dict[str, dict[str, Any]] = {
    "base": SIZES["base"],
    "large": SIZES["large"],
    "so400m": dict(dim=1152, depth=27, heads=16, ratio=4304 / 1152),
    "giantopt": dict(dim=1536, depth=40, heads=16),
}
tanh: Act = partial(GELU, approximate="tanh")


def latent(
    dim: int,
    num_classes: int,
    drop: float,
    leading: int,
    heads: int,
    ratio: float = 4.0,
    act: Act = GELU,
) -> nn.Module:
    """A head that reads what a learned query gathers from the patches."""
    pool = OnGrid(LatentPool(dim, heads, Mlp(dim, ratio, act)), leading)
    return TokenClassifier(dim, num_classes, before=LayerNorm(dim), pool=pool, drop=drop)


def averaged(dim: int, num_classes: int, drop: float, leading: int, **of_pool: Any) -> nn.Module:
    return mean(dim, num_classes, drop, leading)


def at(size: str, patch: int, pixels: int, **more: Any) -> dict[str, Any]:
    return {**SIZE[size], "patch": patch, "img_size": pixels, "native": pixels, "multiple": patch, **more}


GAP, TANH = dict(head=averaged), dict(act=tanh)


@family(
    about(title="Sigmoid Loss for Language Image Pre-Training", arxiv="2303.15343", licence="Apache-2.0"),
    vit_base_patch32_siglip_256=at("base", 32, 256, **TANH),
    vit_base_patch16_siglip_224=at("base", 16, 224),
    vit_base_patch16_siglip_256=at("base", 16, 256),
    vit_base_patch16_siglip_384=at("base", 16, 384),
    vit_base_patch16_siglip_512=at("base", 16, 512),
    vit_large_patch16_siglip_256=at("large", 16, 256),
    vit_large_patch16_siglip_384=at("large", 16, 384),
    vit_large_patch16_siglip_512=at("large", 16, 512, **TANH),
    vit_so400m_patch14_siglip_224=at("so400m", 14, 224),
    vit_so400m_patch14_siglip_378=at("so400m", 14, 378),
    vit_so400m_patch14_siglip_384=at("so400m", 14, 378),  # at 384 the last pixels are in no patch
    vit_so400m_patch16_siglip_256=at("so400m", 16, 256, **TANH),
    vit_so400m_patch16_siglip_384=at("so400m", 16, 384, **TANH),
    vit_so400m_patch16_siglip_512=at("so400m", 16, 512, **TANH),
    vit_giantopt_patch16_siglip_256=at("giantopt", 16, 256, **TANH),
    vit_giantopt_patch16_siglip_384=at("giantopt", 16, 384, **TANH),
    vit_base_patch32_siglip_gap_256=at("base", 32, 256, **GAP, **TANH),
    vit_base_patch16_siglip_gap_224=at("base", 16, 224, **GAP),
    vit_base_patch16_siglip_gap_256=at("base", 16, 256, **GAP),
    vit_base_patch16_siglip_gap_384=at("base", 16, 384, **GAP),
    vit_base_patch16_siglip_gap_512=at("base", 16, 512, **GAP),
    vit_large_patch16_siglip_gap_256=at("large", 16, 256, **GAP),
    vit_large_patch16_siglip_gap_384=at("large", 16, 384, **GAP),
    vit_large_patch16_siglip_gap_512=at("large", 16, 512, **GAP, **TANH),
    vit_so400m_patch14_siglip_gap_224=at("so400m", 14, 224, **GAP),
    vit_so400m_patch14_siglip_gap_378=at("so400m", 14, 378, **GAP),
    vit_so400m_patch14_siglip_gap_384=at("so400m", 14, 378, **GAP),
    vit_so400m_patch14_siglip_gap_448=at("so400m", 14, 448, **GAP),
    vit_so400m_patch14_siglip_gap_896=at("so400m", 14, 896, **GAP),
    vit_so400m_patch16_siglip_gap_256=at("so400m", 16, 256, **GAP, **TANH),
    vit_so400m_patch16_siglip_gap_384=at("so400m", 16, 384, **GAP, **TANH),
    vit_so400m_patch16_siglip_gap_512=at("so400m", 16, 512, **GAP, **TANH),
    vit_giantopt_patch16_siglip_gap_256=at("giantopt", 16, 256, **GAP, **TANH),
    vit_giantopt_patch16_siglip_gap_384=at("giantopt", 16, 384, **GAP, **TANH),
)
def siglip(
    dim: int,
    depth: int,
    heads: int,
    patch: int = 16,
    ratio: float = 4.0,
    act: Act = GELU,
    head: Callable[..., nn.Module] = latent,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    def block(width: int, drop: float) -> nn.Module:
        return PreNorm(width, Attention(width, heads), Mlp(width, ratio, act), drop)

    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    reads = partial(head, heads=heads, ratio=ratio, act=act)
    return assemble(dim, depth, block, reads, patch, tokens={}, img_size=img_size, **more)


TIMM = "attn_pool -> head.pool.pool" + VIT
