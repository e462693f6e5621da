"""ViT: an image is a sentence of 16x16 patches. Dosovitskiy et al., 2020, arXiv:2010.11929

DeiT (Touvron et al., 2020, arXiv:2012.12877) trains it on ImageNet alone and adds a distillation token with a
classifier of its own; DeiT III (Touvron et al., 2022, arXiv:2204.07118) scales the residuals and gives the class token
no position. DINOv2 (Oquab et al., 2023, arXiv:2304.07193) learns without labels, its giant with gated MLPs; registers
(Darcet et al., 2023, arXiv:2309.16588) are four more tokens that keep the maps clean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from ..blocks import Network, PreNorm
from ..blocks.classify import linear
from ..blocks.tokens import FirstToken, MeanPatch, MeanToken, Prefix, TokenClassifier, Tokens
from ..channels.glu import SwiGlu
from ..channels.mlp import Mlp
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..layers.position import Positions, grid
from ..mixers.attention import Attention
from ..registry import about, family
from ..width import Width

VIT = about(
    title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
    arxiv="2010.11929",
    licence="Apache-2.0",
    multiple=16,
)
DEIT = dict(title="Training data-efficient image transformers & distillation through attention", arxiv="2012.12877")
DEIT3 = dict(title="DeiT III: Revenge of the ViT", arxiv="2204.07118", scale=1e-6, placed=False)
DINO2 = dict(title="DINOv2: Learning Robust Visual Features without Supervision", arxiv="2304.07193", scale=1e-5)
REGISTERS = dict(
    title="Vision Transformers Need Registers",
    arxiv="2309.16588",
    scale=1e-5,
    tokens={"cls": 1, "reg": 4},
    placed=False,
)
SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(dim=192, depth=12, heads=3),
    "small": dict(dim=384, depth=12, heads=6),
    "medium": dict(dim=512, depth=12, heads=8),
    "base": dict(dim=768, depth=12, heads=12),
    "large": dict(dim=1024, depth=24, heads=16),
    "huge": dict(dim=1280, depth=32, heads=16),
    "giant": dict(dim=1408, depth=40, heads=16, ratio=48 / 11),
    "gigantic": dict(dim=1664, depth=48, heads=16, ratio=64 / 13),
    "gated": dict(dim=1536, depth=40, heads=24, ratio=8 / 3, mlp=SwiGlu),
}


def at(size: str, patch: int, pixels: int, **more: Any) -> dict[str, Any]:
    return {**SIZES[size], "patch": patch, "img_size": pixels, "native": pixels, "multiple": patch, **more}


class Both(nn.Module):
    """(fc(class token) + distilled(distillation token)) / 2, from (B, 2, C) to (B, num_classes)"""

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.fc, self.distilled = linear(width, num_classes), linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return (self.fc(x[:, 0]) + self.distilled(x[:, 1])) / 2


class FirstTwo(nn.Module):
    """(B, N, C) -> (B, 2, C), the class and the distillation token"""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2]


class DistilledClassifier(TokenClassifier):
    """Two classifiers, one for each leading token, averaged"""

    def __init__(self, width: int, num_classes: int, before: nn.Module, drop: float = 0.0):
        super().__init__(width, num_classes, before, FirstTwo(), drop=drop)
        self.reset(num_classes)

    def vector(self, x: Tensor) -> Tensor:
        return super().vector(x).mean(1)

    def reset(self, num_classes: int) -> None:
        self.fc = Both(self.width, num_classes)


def token(dim: int, num_classes: int, drop: float, leading: int = 0) -> nn.Module:
    """A head that reads the first token, normed."""
    return TokenClassifier(dim, num_classes, before=LayerNorm(dim), pool=FirstToken(), drop=drop)


def mean(
    dim: int, num_classes: int, drop: float, leading: int = 0, norm: Callable[[int], nn.Module] = LayerNorm
) -> nn.Module:
    """A head that reads the mean of the patches' tokens, each normed."""
    pool = MeanPatch(leading) if leading else MeanToken()
    return TokenClassifier(dim, num_classes, before=norm(dim), pool=pool, drop=drop)


def distilled(dim: int, num_classes: int, drop: float, leading: int = 0) -> nn.Module:
    return DistilledClassifier(dim, num_classes, LayerNorm(dim), drop)


CLASS: Mapping[str, int] = MappingProxyType({"cls": 1})
GAP = dict(tokens={}, head=mean)
DISTILLED = dict(tokens={"cls": 1, "dist": 1}, head=distilled)


@family(
    VIT,
    vit_tiny_patch16_224=at("tiny", 16, 224),
    vit_tiny_patch16_384=at("tiny", 16, 384),
    vit_small_patch32_224=at("small", 32, 224),
    vit_small_patch32_384=at("small", 32, 384),
    vit_small_patch16_224=at("small", 16, 224),
    vit_small_patch16_384=at("small", 16, 384),
    vit_small_patch8_224=at("small", 8, 224),
    vit_base_patch32_224=at("base", 32, 224),
    vit_base_patch32_384=at("base", 32, 384),
    vit_base_patch16_224=at("base", 16, 224),
    vit_base_patch16_384=at("base", 16, 384),
    vit_base_patch8_224=at("base", 8, 224),
    vit_large_patch32_224=at("large", 32, 224),
    vit_large_patch32_384=at("large", 32, 384),
    vit_large_patch16_224=at("large", 16, 224),
    vit_large_patch16_384=at("large", 16, 384),
    vit_large_patch14_224=at("large", 14, 224),
    vit_huge_patch14_224=at("huge", 14, 224),
    vit_giant_patch14_224=at("giant", 14, 224),
    vit_gigantic_patch14_224=at("gigantic", 14, 224),
    vit_base_patch16_gap_224=at("base", 16, 224, heads=16, **GAP),
    vit_huge_patch14_gap_224=at("huge", 14, 224, **GAP),
    vit_huge_patch16_gap_448=at("huge", 16, 448, **GAP),
    vit_giant_patch16_gap_224=at("giant", 16, 224, **GAP),
    deit_tiny_patch16_224=at("tiny", 16, 224, **DEIT),
    deit_small_patch16_224=at("small", 16, 224, **DEIT),
    deit_base_patch16_224=at("base", 16, 224, **DEIT),
    deit_base_patch16_384=at("base", 16, 384, **DEIT),
    deit_tiny_distilled_patch16_224=at("tiny", 16, 224, **DEIT, **DISTILLED),
    deit_small_distilled_patch16_224=at("small", 16, 224, **DEIT, **DISTILLED),
    deit_base_distilled_patch16_224=at("base", 16, 224, **DEIT, **DISTILLED),
    deit_base_distilled_patch16_384=at("base", 16, 384, **DEIT, **DISTILLED),
    deit3_small_patch16_224=at("small", 16, 224, **DEIT3),
    deit3_small_patch16_384=at("small", 16, 384, **DEIT3),
    deit3_medium_patch16_224=at("medium", 16, 224, **DEIT3),
    deit3_base_patch16_224=at("base", 16, 224, **DEIT3),
    deit3_base_patch16_384=at("base", 16, 384, **DEIT3),
    deit3_large_patch16_224=at("large", 16, 224, **DEIT3),
    deit3_large_patch16_384=at("large", 16, 384, **DEIT3),
    deit3_huge_patch14_224=at("huge", 14, 224, **DEIT3),
    vit_small_patch14_dinov2=at("small", 14, 518, **DINO2),
    vit_base_patch14_dinov2=at("base", 14, 518, **DINO2),
    vit_large_patch14_dinov2=at("large", 14, 518, **DINO2),
    vit_giant_patch14_dinov2=at("gated", 14, 518, **DINO2),
    vit_small_patch14_reg4_dinov2=at("small", 14, 518, **REGISTERS),
    vit_base_patch14_reg4_dinov2=at("base", 14, 518, **REGISTERS),
    vit_large_patch14_reg4_dinov2=at("large", 14, 518, **REGISTERS),
    vit_giant_patch14_reg4_dinov2=at("gated", 14, 518, **REGISTERS),
)
def vit(
    dim: int,
    depth: int,
    heads: int,
    patch: int = 16,
    ratio: float = 4.0,
    mlp: Callable[[int, float], nn.Module] = Mlp,
    tokens: Mapping[str, int] = CLASS,
    head: Callable[..., nn.Module] = token,
    scale: float | None = None,
    placed: bool = True,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`tokens` stand before the patches', and have positions when `placed`; `scale` starts LayerScale."""

    def block(width: int, drop: float) -> nn.Module:
        return PreNorm(width, Attention(width, heads), mlp(width, ratio), drop, scale=scale)

    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    return assemble(dim, depth, block, head, patch, tokens, placed, img_size=img_size, **more)


def patches(in_chans: int, dim: int, patch: int) -> nn.Module:
    return nn.Conv2d(in_chans, dim, patch, patch)


def assemble(
    dim: int,
    depth: int,
    block: Callable[[int, float], nn.Module],
    head: Callable[..., nn.Module],
    patch: int = 16,
    tokens: Mapping[str, int] = CLASS,
    placed: bool = True,
    stem: Callable[[int, int, int], nn.Module] = patches,
    body: Callable[..., nn.Module] = Tokens,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Patches of a `stem`, tokens before them, positions, blocks of (width, drop), a head: all that a ViT is."""
    dim, drop, leading = Width(dim, "dim"), ramp(drop_path_rate, depth), sum(tokens.values())
    blocks = [block(dim, next(drop)) for _ in range(depth)]
    positions = Positions(dim, grid(img_size, patch), leading if placed else 0)
    prefix = Prefix(dim, tokens) if tokens else None
    backbone = body(stem(in_chans, dim, patch), prefix, positions, blocks, patch)
    net = Network(backbone, head(dim, num_classes, drop_rate, leading))
    initialise(net, linear=trunc02)
    return net


TIMM = """
    cls_token                 -> backbone.prefix.cls
    dist_token                -> backbone.prefix.dist
    reg_token                 -> backbone.prefix.reg
    pos_embed                 -> backbone.positions.table
    patch_embed.proj          -> backbone.patches
    blocks.{b}.attn           -> backbone.blocks.{b}.mixer
    blocks.{b}.ls{i}.gamma    -> backbone.blocks.{b}.scale{i}.gamma
    blocks.{b}                -> backbone.blocks.{b}
    norm                      -> head.before
    fc_norm                   -> head.after
"""
TIMM_DISTILLED = (
    TIMM
    + """
    head                      -> head.fc.fc
    head_dist                 -> head.fc.distilled
"""
)
TIMM += """
    head                      -> head.fc
"""
TORCHVISION = """
    class_token                                                   -> backbone.prefix.cls
    conv_proj                                                     -> backbone.patches
    encoder.pos_embedding                                         -> backbone.positions.table
    encoder.layers.encoder_layer_{b}.ln_{i}                       -> backbone.blocks.{b}.norm{i}
    encoder.layers.encoder_layer_{b}.self_attention.in_proj_weight -> backbone.blocks.{b}.mixer.qkv.weight
    encoder.layers.encoder_layer_{b}.self_attention.in_proj_bias  -> backbone.blocks.{b}.mixer.qkv.bias
    encoder.layers.encoder_layer_{b}.self_attention.out_proj      -> backbone.blocks.{b}.mixer.proj
    encoder.layers.encoder_layer_{b}.mlp.0                        -> backbone.blocks.{b}.mlp.fc1
    encoder.layers.encoder_layer_{b}.mlp.3                        -> backbone.blocks.{b}.mlp.fc2
    encoder.layers.encoder_layer_{b}.mlp.linear_{i}               -> backbone.blocks.{b}.mlp.fc{i}
    encoder.ln                                                    -> head.before
    heads.head                                                    -> head.fc
"""
