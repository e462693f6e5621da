"""BEiT-3: pictures learnt as a foreign language; here its tower for images. Wang et al., 2022, arXiv:2208.10442

A ViT with two more norms a block, behind attention's heads and inside the MLP, so that deep ones train.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from ..blocks import Network, PreNorm
from ..channels.mlp import NormedMlp
from ..layers import LayerNorm
from ..mixers.attention import NormedAttention
from ..registry import about, family
from .vit import TIMM, assemble, at
from .vit_forms import normed_mean


@family(
    about(
        title="Image as a Foreign Language: BEiT Pretraining for Vision and Vision-Language Tasks",
        arxiv="2208.10442",
        licence="MIT",
    ),
    beit3_base_patch16_224=at("base", 16, 224),
    beit3_large_patch16_224=at("large", 16, 224),
    beit3_giant_patch14_224=at("giant", 14, 224),
    beit3_giant_patch14_336=at("giant", 14, 336),
)
def beit3(
    dim: int,
    depth: int,
    heads: int,
    patch: int = 16,
    ratio: float = 4.0,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    def block(width: int, drop: float) -> nn.Module:
        return PreNorm(width, NormedAttention(width, heads), NormedMlp(width, ratio), drop, eps=1e-5)

    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    head = partial(normed_mean, norm=partial(LayerNorm, eps=1e-5))
    return assemble(dim, depth, block, head, patch, img_size=img_size, **more)


__all__ = ["TIMM", "beit3"]
