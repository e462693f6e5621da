"""AIMv2: a ViT that learns to go on with a picture and its caption. Fini et al., 2024, arXiv:2411.14402

RMS norms, gated MLPs, no biases, no class token: the head reads the mean.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network, PreNorm
from ..channels.glu import SplitSwiGlu
from ..layers.norm import RMSNorm
from ..mixers.attention import Attention
from ..registry import about, family
from .vit import TIMM as VIT
from .vit import assemble, mean

rms = partial(RMSNorm, eps=1e-5)
SIZE: dict[str, dict[str, Any]] = {
    "large": dict(dim=1024, heads=8, ratio=2.75),
    "huge": dict(dim=1536, heads=12, ratio=8 / 3),
    "1b": dict(dim=2048, heads=16, ratio=2.75),
    "3b": dict(dim=3072, heads=24, ratio=8 / 3),
}


def at(size: str, pixels: int) -> dict[str, Any]:
    return dict(**SIZE[size], depth=24, img_size=pixels, native=pixels)


def stem(in_chans: int, dim: int, patch: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_chans, dim, patch, patch), rms(dim, dim=1))


@family(
    about(
        title="Multimodal Autoregressive Pre-training of Large Vision Encoders",
        arxiv="2411.14402",
        licence="Apple sample code licence",
        multiple=14,
    ),
    aimv2_large_patch14_224=at("large", 224),
    aimv2_large_patch14_336=at("large", 336),
    aimv2_large_patch14_448=at("large", 448),
    aimv2_huge_patch14_224=at("huge", 224),
    aimv2_huge_patch14_336=at("huge", 336),
    aimv2_huge_patch14_448=at("huge", 448),
    aimv2_1b_patch14_224=at("1b", 224),
    aimv2_1b_patch14_336=at("1b", 336),
    aimv2_1b_patch14_448=at("1b", 448),
    aimv2_3b_patch14_224=at("3b", 224),
    aimv2_3b_patch14_336=at("3b", 336),
    aimv2_3b_patch14_448=at("3b", 448),
)
def aimv2(
    dim: int,
    depth: int,
    heads: int,
    ratio: float,
    patch: int = 14,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    def block(width: int, drop: float) -> nn.Module:
        mixer = Attention(width, heads, qkv_bias=False, proj_bias=False)
        return PreNorm(width, mixer, SplitSwiGlu(width, ratio, bias=False), drop, eps=1e-5, norm=RMSNorm)

    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    head = partial(mean, norm=rms)
    return assemble(dim, depth, block, head, patch, tokens={}, stem=stem, img_size=img_size, **more)


TIMM = (
    """
    patch_embed.proj          -> backbone.patches.0
    patch_embed.norm          -> backbone.patches.1
    blocks.{b}.mlp.fc1_g      -> backbone.blocks.{b}.mlp.gate
    blocks.{b}.mlp.fc1_x      -> backbone.blocks.{b}.mlp.fc1
"""
    + VIT
)
