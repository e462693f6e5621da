"""BEiT: a ViT that learns by filling in visual words. Bao et al., 2021, arXiv:2106.08254

Every block has a bias for relative positions in place of a table for absolute ones; residuals are scaled; the
classifier reads the mean of the patches. BEiT v2 (Peng et al., 2022, arXiv:2208.06366) learns better words.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Network, PreNorm
from ..blocks.tokens import GridTokens, MeanPatch, Prefix, TokenClassifier
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..layers.position import NoPositions, grid, offsets, taken
from ..layers.qkv import QKV
from ..mixers.attention import attend
from ..registry import about, family
from ..width import Groups, Width

BASE: dict[str, Any] = dict(dim=768, depth=12, heads=12)
LARGE: dict[str, Any] = dict(dim=1024, depth=24, heads=16, scale=1e-5)
V2 = dict(title="BEiT v2: Masked Image Modeling with Vector-Quantized Visual Tokenizers", arxiv="2208.06366")


class GridBias(nn.Module):
    """A number a head for each offset on a grid, and three for the class token: logits' bias (heads, 1 + N, 1 + N)

    The three are for what the class token asks, what it is asked, and itself. For another grid the table is resampled.
    """

    axes = {"table": (None, "heads")}
    no_decay = ("table",)
    index: Tensor

    def __init__(self, heads: int, grid: tuple[int, int]):
        super().__init__()
        self.heads, self.grid = heads, grid
        self.table = nn.Parameter(torch.zeros((2 * grid[0] - 1) * (2 * grid[1] - 1) + 3, heads))
        self.register_buffer("index", with_class(grid), persistent=False)

    def forward(self, grid: tuple[int, int]) -> Tensor:
        if grid == self.grid:
            return taken(self.table.mT, self.index)
        old, new = ([2 * side - 1 for side in sides] for sides in (self.grid, grid))
        places = F.interpolate(self.table[:-3].mT.unflatten(1, old)[None], new, mode="bicubic")[0].flatten(1).mT
        return taken(torch.cat([places, self.table[-3:]]).mT, with_class(grid).to(places.device))


def with_class(grid: tuple[int, int]) -> Tensor:
    """`offsets` of a grid with a class token before its places, (1 + N, 1 + N); its three rows are the table's last."""
    asks = (2 * grid[0] - 1) * (2 * grid[1] - 1)
    index = F.pad(offsets(*grid), (1, 0, 1, 0), value=asks)
    index[1:, 0], index[0, 0] = asks + 1, asks + 2
    return index


class BiasedAttention(nn.Module):
    """proj(softmax(q k^T / sqrt(d) + bias(grid)) v) over a class token and the tokens of a grid (B, 1 + N, C)"""

    def __init__(self, dim: int, heads: int, grid: tuple[int, int]):
        super().__init__()
        self.heads = Width(heads, "heads")
        inner = Groups(self.heads, dim // heads)
        self.qkv, self.proj, self.bias = QKV(dim, inner), nn.Linear(inner, dim), GridBias(self.heads, grid)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = attend(q, k, v, self.bias(tuple(grid))[None])
        return self.proj(y.transpose(1, 2).flatten(2))


@family(
    about(title="BEiT: BERT Pre-Training of Image Transformers", arxiv="2106.08254", licence="MIT", multiple=16),
    beit_base_patch16_224=dict(**BASE, img_size=224, scale=0.1),
    beit_base_patch16_384=dict(**BASE, img_size=384, native=384, scale=0.1),
    beit_large_patch16_224=dict(**LARGE, img_size=224),
    beit_large_patch16_384=dict(**LARGE, img_size=384, native=384),
    beit_large_patch16_512=dict(**LARGE, img_size=512, native=512),
    beitv2_base_patch16_224=dict(**BASE, img_size=224, scale=1e-5, **V2),
    beitv2_large_patch16_224=dict(**LARGE, img_size=224, **V2),
)
def beit(
    dim: int,
    depth: int,
    heads: int,
    patch: int = 16,
    scale: float = 1e-5,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`scale` starts LayerScale."""
    dim, drop, places = Width(dim, "dim"), ramp(drop_path_rate, depth), grid(img_size, patch)
    blocks = [PreNorm(dim, BiasedAttention(dim, heads, places), drop=next(drop), scale=scale) for _ in range(depth)]
    patches, prefix = nn.Conv2d(in_chans, dim, patch, patch), Prefix(dim, {"cls": 1})
    backbone = GridTokens(patches, prefix, NoPositions(dim), blocks, patch)
    net = Network(backbone, TokenClassifier(dim, num_classes, pool=MeanPatch(), after=LayerNorm(dim), drop=drop_rate))
    initialise(net, linear=trunc02)
    return net


TIMM = """
    cls_token                                       -> backbone.prefix.cls
    patch_embed.proj                                -> backbone.patches
    blocks.{b}.gamma_{i}                            -> backbone.blocks.{b}.scale{i}.gamma
    blocks.{b}.attn.q_bias                          -> backbone.blocks.{b}.mixer.qkv.q_bias
    blocks.{b}.attn.v_bias                          -> backbone.blocks.{b}.mixer.qkv.v_bias
    blocks.{b}.attn.relative_position_bias_table    -> backbone.blocks.{b}.mixer.bias.table
    blocks.{b}.attn                                 -> backbone.blocks.{b}.mixer
    blocks.{b}                                      -> backbone.blocks.{b}
    fc_norm                                         -> head.after
    head                                            -> head.fc
"""
