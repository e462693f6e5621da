"""ViTs of other sizes, heads and prefixes than the first papers' (Dosovitskiy et al., 2020, arXiv:2010.11929)

Most of them are timm's: registers (Darcet et al., 2023, arXiv:2309.16588) with or without a class token, a head that
reads the mean. FlexiViT (Beyer et al., 2022, arXiv:2212.08013) gives the class token no position. Three forms of
Touvron et al., 2022, arXiv:2203.09795, are deep, or have two branches beside each other. C-RADIO, InternViT and TIPSv2
have no norm, or other first gains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ..blocks import Network, PreNorm
from ..blocks.postnorm import PostNorm
from ..blocks.tokens import FirstToken, MeanPatch, MeanToken, TokenClassifier
from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm, Scale
from ..mixers.attention import Attention
from ..registry import about, family
from .siglip import latent
from .vit import CLASS, SIZES, assemble, mean, token
from .vit import TIMM as VIT

SIZE: dict[str, dict[str, Any]] = {
    **SIZES,
    "wee": dict(dim=256, depth=14, heads=4, ratio=5.0),
    "little": dict(dim=320, depth=14, heads=5, ratio=5.6),
    "mediumd": dict(dim=512, depth=20, heads=8),
    "betwixt": dict(dim=640, depth=12, heads=10),
    "plus": dict(dim=896, depth=12, heads=14),
    "so150m": dict(dim=896, depth=18, heads=14, ratio=2.572),
    "so150m2": dict(dim=832, depth=21, heads=13, ratio=34 / 13),
    "so400m": dict(dim=1152, depth=27, heads=16, ratio=269 / 72),
    "small36": dict(dim=384, depth=36, heads=6),
    "small18": dict(dim=384, depth=18, heads=6),
    "base18": dict(dim=768, depth=18, heads=12),
}


def at(size: str, patch: int, pixels: int, **more: Any) -> dict[str, Any]:
    return {**SIZE[size], "patch": patch, "img_size": pixels, "native": pixels, "multiple": patch, **more}


def normed_mean(
    dim: int, num_classes: int, drop: float, leading: int, norm: Callable[[int], nn.Module] = LayerNorm
) -> nn.Module:
    """A head that norms the mean of the patches' tokens."""
    pool = MeanPatch(leading) if leading else MeanToken()
    return TokenClassifier(dim, num_classes, pool=pool, after=norm(dim), drop=drop)


def raw(dim: int, num_classes: int, drop: float, leading: int) -> nn.Module:
    """A head that reads the first token as it is."""
    return TokenClassifier(dim, num_classes, pool=FirstToken(), drop=drop)


def gathered(dim: int, num_classes: int, drop: float, leading: int) -> nn.Module:
    return latent(dim, num_classes, drop, leading, heads=14, ratio=2.572)


class Beside(nn.Module):
    """x + sum of drop(scale(mixer(norm(x)))) over the mixers, then the same of as many MLPs. arXiv:2203.09795"""

    def __init__(self, dim: int, mixers: list[nn.Module], mlps: list[nn.Module], drop: float, scale: float):
        super().__init__()

        def branches(ops: list[nn.Module]) -> nn.ModuleList:
            return nn.ModuleList(nn.Sequential(LayerNorm(dim), op, Scale(dim, scale), DropPath(drop)) for op in ops)

        self.mixers, self.mlps = branches(mixers), branches(mlps)

    def forward(self, x: Tensor) -> Tensor:
        for branches in (self.mixers, self.mlps):
            x = x + sum(branch(x) for branch in branches)
        return x


Parts = Callable[[], tuple[nn.Module, nn.Module]]  # makes a mixer and an MLP


def prenorm(dim: int, make: Parts, drop: float, scale: float | None) -> nn.Module:
    return PreNorm(dim, *make(), drop, scale=scale)


def postnorm(dim: int, make: Parts, drop: float, scale: float | None) -> nn.Module:
    return PostNorm(dim, *make(), drop, eps=1e-6)


def beside(dim: int, make: Parts, drop: float, scale: float) -> nn.Module:
    mixers, mlps = zip(make(), make())
    return Beside(dim, list(mixers), list(mlps), drop, scale)


FLEXI = dict(title="FlexiViT: One Model for All Patch Sizes", arxiv="2212.08013", placed=False)
THREE = dict(title="Three things everyone should know about Vision Transformers", arxiv="2203.09795", scale=1e-5)
REGISTERS = dict(title="Vision Transformers Need Registers", arxiv="2309.16588")
R1: dict[str, Any] = dict(**REGISTERS, tokens={"reg": 1}, head=normed_mean, placed=False, scale=1e-5)
R4: dict[str, Any] = {**R1, "tokens": {"reg": 4}}
GAP = dict(tokens={}, head=mean, qkv_bias=False, scale=1e-6)
SHAPED = dict(title="Getting ViT in Shape: Scaling Laws for Compute-Optimal Model Design", arxiv="2305.13035")
SO4 = dict(**SHAPED, tokens={"reg": 4})
SO2 = dict(**SHAPED, tokens={"reg": 1}, head=normed_mean, qkv_bias=False, scale=1e-5)
RADIO = dict(title="AM-RADIO: Agglomerative Vision Foundation Model", arxiv="2312.06709", head=raw, placed=False)
RADIO7, RADIO9 = (dict(**RADIO, tokens={"cls": 1, "reg": n}) for n in (7, 9))
TIPS = dict(
    title="TIPS: Text-Image Pretraining with Spatial awareness",
    arxiv="2410.16512",
    tokens={"cls": 1, "reg": 1},
    placed=False,
    scale=1.0,
)
EVA = dict(title="EVA: Exploring the Limits of Masked Visual Representation Learning at Scale", arxiv="2211.07636")
MIIL = dict(title="ImageNet-21K Pretraining for the Masses", arxiv="2104.10972")
INTERN = dict(title="InternVL: Scaling up Vision Foundation Models", arxiv="2312.14238", head=raw, scale=0.1)
POST = dict(tokens={}, head=normed_mean, qkv_bias=False, block=postnorm)


@family(
    about(
        title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        arxiv="2010.11929",
        licence="Apache-2.0",
    ),
    vit_wee_patch16_reg1_gap_256=at("wee", 16, 256, **R1),
    vit_little_patch16_reg1_gap_256=at("little", 16, 256, **R1),
    vit_little_patch16_reg4_gap_256=at("little", 16, 256, **R4),
    vit_medium_patch16_gap_240=at("medium", 16, 240, **GAP),
    vit_medium_patch16_gap_256=at("medium", 16, 256, **GAP),
    vit_medium_patch16_gap_384=at("medium", 16, 384, **GAP),
    vit_medium_patch16_reg1_gap_256=at("medium", 16, 256, **R1),
    vit_medium_patch16_reg4_gap_256=at("medium", 16, 256, **R4),
    vit_mediumd_patch16_reg4_gap_256=at("mediumd", 16, 256, **R4),
    vit_mediumd_patch16_reg4_gap_384=at("mediumd", 16, 384, **R4),
    vit_betwixt_patch16_gap_256=at("betwixt", 16, 256, **GAP),
    vit_betwixt_patch16_reg1_gap_256=at("betwixt", 16, 256, **R1),
    vit_betwixt_patch16_reg4_gap_256=at("betwixt", 16, 256, **R4),
    vit_betwixt_patch16_reg4_gap_384=at("betwixt", 16, 384, **R4),
    vit_base_patch16_reg4_gap_256=at("base", 16, 256, **{**R4, "scale": None}),
    vit_so150m_patch16_reg4_map_256=at("so150m", 16, 256, **SO4, head=gathered),
    vit_so150m_patch16_reg4_gap_256=at("so150m", 16, 256, **SO4, head=mean),
    vit_so150m_patch16_reg4_gap_384=at("so150m", 16, 384, **SO4, head=mean),
    vit_so150m2_patch16_reg1_gap_256=at("so150m2", 16, 256, **SO2),
    vit_so150m2_patch16_reg1_gap_384=at("so150m2", 16, 384, **SO2),
    vit_so150m2_patch16_reg1_gap_448=at("so150m2", 16, 448, **SO2),
    vit_base_patch16_plus_240=at("plus", 16, 240, scale=1e-5),
    vit_base_patch32_plus_256=at("plus", 32, 256, scale=1e-5),
    vit_base_patch16_224_miil=at("base", 16, 224, qkv_bias=False, **MIIL),
    vit_base_patch16_rpn_224=at("base", 16, 224, **POST),
    vit_small_patch16_36x1_224=at("small36", 16, 224, **THREE),
    vit_small_patch16_18x2_224=at("small18", 16, 224, block=beside, **THREE),
    vit_base_patch16_18x2_224=at("base18", 16, 224, block=beside, **THREE),
    flexivit_small=at("small", 16, 240, **FLEXI),
    flexivit_base=at("base", 16, 240, **FLEXI),
    flexivit_large=at("large", 16, 240, **FLEXI),
    eva_large_patch14_196=at("large", 14, 196, head=normed_mean, **EVA),
    eva_large_patch14_336=at("large", 14, 336, head=normed_mean, **EVA),
    vit_intern300m_patch14_448=at("large", 14, 448, **INTERN),
    vit_base_patch16_radio_v3=at("base", 16, 512, **RADIO7, scale=1e-5),
    vit_large_patch16_radio_v3=at("large", 16, 512, **RADIO7, scale=1e-5),
    vit_huge_patch16_radio_v3=at("huge", 16, 512, **RADIO7),
    vit_giant_patch16_radio_v3={**at("gated", 16, 512, **RADIO7), "ratio": 4.0, "mlp": Mlp},
    vit_so400m_patch16_radio_v4=at("so400m", 16, 512, **RADIO9),
    vit_huge_patch16_radio_v4=at("huge", 16, 512, **RADIO9),
    vit_base_patch14_reg1_tipsv2=at("base", 14, 448, **TIPS),
    vit_large_patch14_reg1_tipsv2=at("large", 14, 448, **TIPS),
    vit_so400m_patch14_reg1_tipsv2=at("so400m", 14, 448, **TIPS),
    vit_giant_patch14_reg1_tipsv2=at("gated", 14, 448, **TIPS),
)
def vit_forms(
    dim: int,
    depth: int,
    heads: int,
    patch: int = 16,
    ratio: float = 4.0,
    mlp: Callable[[int, float], nn.Module] = Mlp,
    qkv_bias: bool = True,
    block: Callable[..., nn.Module] = prenorm,
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

    def made(width: int, drop: float) -> nn.Module:
        return block(width, lambda: (Attention(width, heads, qkv_bias), mlp(width, ratio)), drop, scale)

    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    return assemble(dim, depth, made, head, patch, tokens, placed, img_size=img_size, **more)


TIMM = (
    """
    attn_pool                   -> head.pool.pool
    blocks.{b}.attns.{i}.norm   -> backbone.blocks.{b}.mixers.{i}.0
    blocks.{b}.attns.{i}.attn   -> backbone.blocks.{b}.mixers.{i}.1
    blocks.{b}.attns.{i}.ls     -> backbone.blocks.{b}.mixers.{i}.2
    blocks.{b}.ffns.{i}.norm    -> backbone.blocks.{b}.mlps.{i}.0
    blocks.{b}.ffns.{i}.mlp     -> backbone.blocks.{b}.mlps.{i}.1
    blocks.{b}.ffns.{i}.ls      -> backbone.blocks.{b}.mlps.{i}.2
"""
    + VIT
)
