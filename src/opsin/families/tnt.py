"""TNT: a transformer on the pixels of every patch feeds a transformer on patches. Han et al., 2021, arXiv:2103.00112

Sixteen pixel tokens a patch, each of 4x4 pixels of the image, attend among themselves; then their patch's token adds a
projection of them all. The legacy form is that of the first checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Features, Network, PreNorm
from ..blocks.stage import Blocks
from ..blocks.tokens import FirstToken, Prefix, TokenClassifier
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..layers.position import MapPositions, Positions, grid
from ..registry import about, family
from ..width import Concat, Groups, Width

PATCH, PIXELS = 16, 4  # pixels of the image a side of a patch, pixel tokens a side of a patch


class SplitAttention(nn.Module):
    """proj(softmax(q k^T / sqrt(d)) v) over tokens (B, N, C); [q, k] and v come from two layers without biases"""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = Width(heads, "heads")
        inner = Groups(self.heads, dim // heads)
        self.qk, self.v = nn.Linear(dim, Concat(inner, inner), bias=False), nn.Linear(dim, inner, bias=False)
        self.proj = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.qk(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        v = self.v(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def parted(x: Tensor, side: int) -> Tensor:
    """Squares of a map (B, C, H, W) as a batch of small maps (B N, C, side, side), row by row."""
    x = x.unflatten(3, (-1, side)).unflatten(2, (-1, side))
    return x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


class PixelsInPatch(nn.Module):
    """The convolution sees one patch alone: images to pixel tokens' maps (B N, c, 4, 4)"""

    def __init__(self, cin: int, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(cin, dim, 7, PATCH // PIXELS, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(parted(x, PATCH))


class PixelsInImage(PixelsInPatch):
    """The convolution sees the whole image, over the borders of patches (legacy)"""

    def forward(self, x: Tensor) -> Tensor:
        return parted(self.proj(x), PIXELS)


class Fold(nn.Module):
    """norm2(proj(norm1(all pixels of a patch, end to end))): (B N, 16, c) to (B N, C)"""

    def __init__(self, inner: int, outer: int, bias: bool = False):
        super().__init__()
        whole = Groups(PIXELS**2, inner)
        self.norm1, self.proj = LayerNorm(whole, eps=1e-5), nn.Linear(whole, outer, bias=bias)
        self.norm2 = LayerNorm(outer, eps=1e-5)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.norm2(self.proj(self.norm1(pixels.flatten(1))))


class LegacyFold(nn.Module):
    """proj(norm1(each pixel), end to end)"""

    def __init__(self, inner: int, outer: int):
        super().__init__()
        self.norm1, self.proj = LayerNorm(inner, eps=1e-5), nn.Linear(Groups(PIXELS**2, inner), outer)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(self.norm1(pixels).flatten(1))


class TNTBlock(nn.Module):
    """pixels = inner(pixels); patches = outer(patches + fold(pixels)), the class token without"""

    def __init__(self, inner: nn.Module, fold: nn.Module, outer: nn.Module):
        super().__init__()
        self.inner, self.fold, self.outer = inner, fold, outer

    def forward(self, pixels: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        pixels = self.inner(pixels)
        told = self.fold(pixels).unflatten(0, (patches.shape[0], -1))
        return pixels, self.outer(torch.cat([patches[:, :1], patches[:, 1:] + told], 1))


class TwoStreams(nn.Module):
    """Pixel tokens and patch tokens; a tap is the map of patches behind a block"""

    def __init__(self, stem: Sequence[nn.Module], prefix: nn.Module, positions: Positions, blocks: Sequence[nn.Module]):
        super().__init__()
        self.pixels, self.pixel_positions, self.fold = stem
        self.prefix, self.positions, self.blocks = prefix, positions, Blocks(*blocks)
        self.widths, self.strides = [positions.dim] * len(blocks), [PATCH] * len(blocks)

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        rows, columns = x.shape[2] // PATCH, x.shape[3] // PATCH
        pixels = self.pixel_positions(self.pixels(x)).flatten(2).mT
        patches = self.prefix(self.fold(pixels).unflatten(0, (x.shape[0], -1)))
        patches = self.positions(patches, (rows, columns))
        wanted, made = [tap % len(self.blocks) for tap in taps], {}
        for i, block in enumerate(self.blocks):
            pixels, patches = self.blocks.run(block, pixels, patches)
            made[i] = patches
        maps = [made[i][:, 1:].mT.unflatten(2, (rows, columns)) for i in wanted]
        return Features(maps, [PATCH] * len(maps), patches, 1)


@family(
    about(title="Transformer in Transformer", arxiv="2103.00112", licence="Apache-2.0", multiple=16),
    tnt_s_patch16_224=dict(dim=384, heads=6, inner_dim=24),
    tnt_b_patch16_224=dict(dim=640, heads=10, inner_dim=40),
    tnt_s_legacy_patch16_224=dict(dim=384, heads=6, inner_dim=24, stem=PixelsInImage, fold=LegacyFold),
)
def tnt(
    dim: int,
    heads: int,
    inner_dim: int,
    depth: int = 12,
    stem: Callable[[int, int], nn.Module] = PixelsInPatch,
    fold: Callable[[int, int], nn.Module] = Fold,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`dim` channels a patch, `inner_dim` a pixel token."""
    dim, inner, drop = Width(dim, "dim"), Width(inner_dim, "inner_dim"), ramp(drop_path_rate, depth)

    def block(rate: float) -> nn.Module:
        pixels = PreNorm(inner, SplitAttention(inner, 4), drop=rate, eps=1e-5)
        return TNTBlock(pixels, fold(inner, dim), PreNorm(dim, SplitAttention(dim, heads), drop=rate, eps=1e-5))

    first = [stem(in_chans, inner), MapPositions(inner, (PIXELS, PIXELS)), Fold(inner, dim, bias=True)]
    positions = Positions(dim, grid(img_size, PATCH), 1)
    backbone = TwoStreams(first, Prefix(dim, {"cls": 1}), positions, [block(rate) for rate in drop])
    head = TokenClassifier(dim, num_classes, before=LayerNorm(dim, eps=1e-5), pool=FirstToken(), drop=drop_rate)
    net = Network(backbone, head)
    initialise(net, linear=trunc02)
    return net


TIMM = """
    cls_token                   -> backbone.prefix.cls
    patch_pos                   -> backbone.positions.table
    pixel_pos                   -> backbone.pixel_positions.table
    pixel_embed                 -> backbone.pixels
    norm1_proj                  -> backbone.fold.norm1
    proj                        -> backbone.fold.proj
    norm2_proj                  -> backbone.fold.norm2
    blocks.{b}.norm_in          -> backbone.blocks.{b}.inner.norm1
    blocks.{b}.attn_in          -> backbone.blocks.{b}.inner.mixer
    blocks.{b}.norm_mlp_in      -> backbone.blocks.{b}.inner.norm2
    blocks.{b}.mlp_in           -> backbone.blocks.{b}.inner.mlp
    blocks.{b}.norm{i}_proj     -> backbone.blocks.{b}.fold.norm{i}
    blocks.{b}.proj             -> backbone.blocks.{b}.fold.proj
    blocks.{b}.norm_out         -> backbone.blocks.{b}.outer.norm1
    blocks.{b}.attn_out         -> backbone.blocks.{b}.outer.mixer
    blocks.{b}.norm_mlp         -> backbone.blocks.{b}.outer.norm2
    blocks.{b}.mlp              -> backbone.blocks.{b}.outer.mlp
    norm                        -> head.before
    head                        -> head.fc
"""
