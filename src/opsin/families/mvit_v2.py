"""MViTv2: MViT with relative positions along each axis and queries added to what they found. Li et al., 2112.01526

Blocks widen in attention, not behind the MLP (but in the `large` form). The `cls` forms keep a class token;
`mvit_v2_s` is for video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..blocks import Network
from ..blocks.stage import Blocks
from ..blocks.tokens import Prefix
from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..layers.position import NoPositions, grid
from ..mixers.pooling_attention import (
    ConvPool,
    Grid,
    GridResidualAttention,
    MaxPool,
    ResidualPoolingAttention,
    Unpooled,
)
from ..registry import about, family
from ..width import each, same
from .mvit import TORCHVISION as TORCHVISION_V1
from .mvit import Clip, MViT, MViTBlock, flat, three
from .vit import mean, token


class MViT2Block(nn.Module):
    """x = skip(widen(norm1(x)) or x) + drop(attn(norm1(x))), then x + drop(mlp(norm2(x))), beside the grid"""

    def __init__(self, attn: nn.Module, skip: nn.Module, dim: int, cout: int, drop: float = 0.0):
        super().__init__()
        self.norm1, self.attn, self.skip = LayerNorm(dim), attn, skip
        self.norm2, self.mlp, self.drop = LayerNorm(cout), Mlp(cout), DropPath(drop)
        self.widen = None if same(dim, cout) else nn.Linear(dim, cout)

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        normed = self.norm1(x)
        y, after = self.attn(normed, grid)
        x = self.skip(x if self.widen is None else self.widen(normed), grid)[0] + self.drop(y)
        return x + self.drop(self.mlp(self.norm2(x))), after


def early(dims: Sequence[int], s: int, first: bool, last: bool) -> tuple[type[nn.Module], int, int, int]:
    """The block of stage `s`, its channels before, behind attention and behind: attention widens a stage's first."""
    return MViT2Block, dims[s - first], dims[s], dims[s]


def late(dims: Sequence[int], s: int, first: bool, last: bool) -> tuple[type[nn.Module], int, int, int]:
    """The same where the MLP of a stage's last block widens for the next stage, as in MViT."""
    return MViTBlock, dims[s], dims[s], dims[s + last]


def stages_of(
    depths: Sequence[int],
    dims: Sequence[int],
    heads: int,
    sides: Sequence[int],
    drop: Iterator[float],
    shrink: int = 4,
    attention: Callable[..., nn.Module] = ResidualPoolingAttention,
    widen: Callable[..., tuple[type[nn.Module], int, int, int]] = early,
) -> list[Blocks]:
    """`sides` are those of the first stage's grid; the first block of a later stage pools its queries."""

    def block(s: int, b: int) -> nn.Module:
        first, last = s > 0 and b == 0, b == depths[s] - 1 and s + 1 < len(depths)
        steps = [flat(n, len(sides)) for n in (2 if first else 1, max(shrink // 2**s, 1))]
        queries, keys = (partial(ConvPool, kernel=three(step), stride=step) for step in steps)
        before = flat(2 ** (s - first), len(sides))  # pixels of the first grid a step before the block
        here = [side // b // min(steps_of) for side, b, *steps_of in zip(sides, before, *steps)]  # the finer one's
        kind, cin, inner, cout = widen(dims, s, first, last)
        attn = attention(cin, inner, heads * 2**s, dims[0] // heads, (queries, keys, keys), here)
        return kind(attn, MaxPool(steps[0]) if first else Unpooled(), cin, cout, next(drop))

    return [Blocks(*[block(s, b) for b in range(depth)]) for s, depth in enumerate(depths)]


TOLD = about(
    title="MViTv2: Improved Multiscale Vision Transformers for Classification and Detection",
    arxiv="2112.01526",
    licence="Apache-2.0",
    multiple=32,
)
SMALL: dict[str, Any] = dict(depths=(1, 2, 11, 2))
BASE: dict[str, Any] = dict(depths=(2, 3, 16, 3))
LARGE: dict[str, Any] = dict(depths=(2, 6, 36, 4), dim=144, heads=2)
CLS: dict[str, Any] = dict(tokens=1, head=token)


@family(
    TOLD,
    mvitv2_tiny=dict(depths=(1, 2, 5, 2)),
    mvitv2_small=SMALL,
    mvitv2_base=BASE,
    mvitv2_large={**LARGE, "widen": late},
    mvitv2_small_cls={**SMALL, **CLS},
    mvitv2_base_cls={**BASE, **CLS},
    mvitv2_large_cls={**LARGE, **CLS},
    mvitv2_huge_cls=dict(depths=(4, 8, 60, 8), dim=192, heads=3, **CLS),
)
def mvit_v2(
    depths: Sequence[int],
    dim: int = 96,
    heads: int = 1,
    tokens: int = 0,
    head: Callable[..., nn.Module] = mean,
    widen: Callable[..., tuple[type[nn.Module], int, int, int]] = early,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """The form for images."""
    dims = each(*[dim * 2**s for s in range(len(depths))])
    stages = stages_of(depths, dims, heads, grid(img_size, 4), ramp(drop_path_rate, sum(depths)), widen=widen)
    prefix = Prefix(dims[0], {"cls": tokens}) if tokens else nn.Identity()
    stem = [nn.Conv2d(in_chans, dims[0], 7, 4, 3), prefix, NoPositions(dims[0])]
    widths = [widen(dims, s, False, s < len(dims) - 1)[-1] for s in range(len(dims))]
    net = Network(MViT(stem, stages, widths), head(dims[-1], num_classes, drop_rate))
    initialise(net, linear=trunc02)
    return net


@family(TOLD, mvit_v2_s=SMALL)
def mvit_v2_video(
    depths: Sequence[int],
    dim: int = 96,
    heads: int = 1,
    frames: int = 16,
    img_size: int = 224,
    num_classes: int = 400,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """The form for video, (B, C, frames, H, W)."""
    dims = each(*[dim * 2**s for s in range(len(depths))])
    sides = (frames // 2, *grid(img_size, 4))
    drop = ramp(drop_path_rate, sum(depths))
    stages = stages_of(depths, dims, heads, sides, drop, shrink=8, attention=GridResidualAttention)
    stem = [Clip(in_chans, dims[0], frames), Prefix(dims[0], {"cls": 1}), NoPositions(dims[0])]
    net = Network(MViT(stem, stages, dims), token(dims[-1], num_classes, drop_rate))
    initialise(net, linear=trunc02)
    return net


TIMM = (
    "".join(
        f"stages.{{s}}.blocks.{{b}}.attn.pool_{x} -> backbone.stages.{{s}}.{{b}}.attn.pool_{x}.conv\n"
        f"stages.{{s}}.blocks.{{b}}.attn.norm_{x} -> backbone.stages.{{s}}.{{b}}.attn.pool_{x}.norm\n"
        for x in "qkv"
    )
    + "".join(
        f"stages.{{s}}.blocks.{{b}}.attn.rel_pos_{x} -> backbone.stages.{{s}}.{{b}}.attn.offsets.{x}\n" for x in "hw"
    )
    + """
    cls_token                                   -> backbone.prefix.cls
    patch_embed.proj                            -> backbone.patches
    stages.{s}.blocks.{b}.shortcut_proj_attn    -> backbone.stages.{s}.{b}.widen
    stages.{s}.blocks.{b}.shortcut_proj_mlp     -> backbone.stages.{s}.{b}.widen
    stages.{s}.blocks.{b}                       -> backbone.stages.{s}.{b}
    norm                                        -> head.before
    head.fc                                     -> head.fc
"""
)
TORCHVISION = TORCHVISION_V1
