"""MViT: a transformer whose tokens grow fewer and wider with depth, for video and images. Fan et al., 2021, 2104.11227

Pooled queries make a coarser grid, pooled keys and values make attention cheap. Video networks take a single image for
a clip that stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Features, Network
from ..blocks.stage import Blocks
from ..blocks.tokens import Prefix
from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..layers.position import Positions, grid, resampled
from ..mixers.pooling_attention import ConvPool, Grid, MaxPool, PoolingAttention, Unpooled
from ..registry import about, family
from ..width import each, same
from .vit import token

Kernel = Callable[[Sequence[int]], tuple[int, ...]]


class MViTBlock(nn.Module):
    """x = skip(x) + drop(attn(norm1(x))), then (widen(norm2(x)) or x) + drop(mlp(norm2(x))), beside the grid"""

    def __init__(self, attn: nn.Module, skip: nn.Module, dim: int, cout: int, drop: float = 0.0):
        super().__init__()
        self.norm1, self.attn, self.skip = LayerNorm(dim), attn, skip
        self.norm2, self.mlp, self.drop = LayerNorm(dim), Mlp(dim, cout=cout), DropPath(drop)
        self.widen = None if same(dim, cout) else nn.Linear(dim, cout)

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        y, after = self.attn(self.norm1(x), grid)
        x = self.skip(x, grid)[0] + self.drop(y)
        y = self.norm2(x)
        return (x if self.widen is None else self.widen(y)) + self.drop(self.mlp(y)), after


class Clip(nn.Module):
    """Patches of a video (B, C, T, H, W); an image (B, C, H, W) is taken for `frames` equal frames"""

    def __init__(self, cin: int, dim: int, frames: int):
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv3d(cin, dim, (3, 7, 7), (2, 4, 4), (1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if x.ndim == 5 else x[:, :, None].expand(-1, -1, self.frames, -1, -1))


class SeparablePositions(nn.Module):
    """x + (place in the frame + time), over tokens (B, 1 + N, C); the class token has a position of its own"""

    axes = {name: (None, None, "dim") for name in ("first", "space", "time")}
    no_decay = ("first", "space", "time")

    def __init__(self, dim: int, grid: Grid):
        super().__init__()
        self.dim, self.grid = dim, grid
        self.first = nn.Parameter(torch.zeros(1, 1, dim))
        self.space, self.time = (nn.Parameter(torch.empty(1, n, dim)) for n in (grid[1] * grid[2], grid[0]))
        nn.init.trunc_normal_(self.space, std=0.02)
        nn.init.trunc_normal_(self.time, std=0.02)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        space: Tensor = self.space
        time: Tensor = self.time
        if grid[1:] != self.grid[1:]:
            space = resampled(space, 0, self.grid[1:], grid[1:])
        if grid[0] != self.grid[0]:
            time = F.interpolate(time.mT, grid[0], mode="linear").mT
        return x + torch.cat([self.first, (time[:, :, None] + space[:, None]).flatten(1, 2)], 1)


class MViT(nn.Module):
    """stages(positions(prefix(patches(x)))); a tap is the map, of video (B, C, T, H, W), behind a stage"""

    def __init__(self, stem: Sequence[nn.Module], stages: Sequence[nn.Module], widths: Sequence[int]):
        super().__init__()
        self.patches, self.prefix, self.positions = stem
        self.stages = nn.ModuleList(stages)
        self.widths, self.strides = list(widths), [4 * 2**i for i in range(len(stages))]

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        x = self.patches(x)
        grid, x = tuple(x.shape[2:]), x.flatten(2).mT
        n = x.shape[1]
        x = self.prefix(x)
        x, leading = self.positions(x, grid), x.shape[1] - n
        wanted, made = [tap % len(self.stages) for tap in taps], {}
        stages: Any = islice(self.stages, max(wanted) + 1)
        for i, stage in enumerate(stages):
            for block in stage:
                x, grid = stage.run(block, x, grid)
            if i in wanted:
                made[i] = x[:, leading:].mT.unflatten(2, grid)
        return Features([made[i] for i in wanted], [self.strides[i] for i in wanted], x, leading)


def three(stride: Sequence[int]) -> tuple[int, ...]:
    return (3,) * len(stride)


def fitted(stride: Sequence[int]) -> tuple[int, ...]:
    """A little wider than the stride, and nothing where there is none."""
    return tuple(s + 1 if s > 1 else 1 for s in stride)


def flat(side: int, axes: int) -> tuple[int, ...]:
    """A stride in the plane of the image, none in time."""
    return (1,) * (axes - 2) + (side, side)


def pool(stride: Sequence[int], kernel: Kernel) -> Callable[[int], nn.Module]:
    sides = kernel(stride)
    return partial(ConvPool, kernel=sides, stride=stride) if max(sides) > 1 else lambda size: Unpooled()


def stages_of(
    depths: Sequence[int], dims: Sequence[int], axes: int, shrink: int, kernel: Kernel, drop: Iterator[float]
) -> list[Blocks]:
    """The first block of a later stage pools its queries; the last one of a stage widens for the next."""

    def block(s: int, b: int) -> nn.Module:
        cout = dims[s + 1] if b == depths[s] - 1 and s + 1 < len(dims) else dims[s]
        first = s > 0 and b == 0
        keys = pool(flat(max(shrink // 2**s, 1), axes), kernel)
        queries = pool(flat(2, axes), kernel) if first else lambda size: Unpooled()
        attn = PoolingAttention(dims[s], dims[s], 2**s, int(dims[0]), (queries, keys, keys))
        return MViTBlock(attn, MaxPool(flat(2, axes)) if first else Unpooled(), dims[s], cout, next(drop))

    return [Blocks(*[block(s, b) for b in range(depth)]) for s, depth in enumerate(depths)]


TOLD = about(title="Multiscale Vision Transformers", arxiv="2104.11227", licence="Apache-2.0", multiple=32)


@family(TOLD, mvit_b_16_conv=dict(depths=(1, 2, 11, 2)))
def mvit(
    depths: Sequence[int],
    dim: int = 96,
    shrink: int = 4,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """The form for images; `shrink` is the stride of the first stage's keys and values."""
    dims = each(*[dim * 2**s for s in range(len(depths))])
    stages = stages_of(depths, dims, 2, shrink, three, ramp(drop_path_rate, sum(depths)))
    stem = [
        nn.Conv2d(in_chans, dims[0], 7, 4, 3),
        Prefix(dims[0], {"cls": 1}),
        Positions(dims[0], grid(img_size, 4), 1),
    ]
    net = Network(MViT(stem, stages, [*dims[1:], dims[-1]]), token(dims[-1], num_classes, drop_rate))
    initialise(net, linear=trunc02)
    return net


@family(
    TOLD,
    mvit_v1_b=dict(depths=(1, 2, 11, 2)),
    mvit_b_32x3=dict(depths=(2, 3, 16, 3), frames=32, kernel=fitted),
)
def mvit_video(
    depths: Sequence[int],
    dim: int = 96,
    frames: int = 16,
    shrink: int = 8,
    kernel: Kernel = three,
    img_size: int = 224,
    num_classes: int = 400,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """The form for video, (B, C, frames, H, W)."""
    dims = each(*[dim * 2**s for s in range(len(depths))])
    stages = stages_of(depths, dims, 3, shrink, kernel, ramp(drop_path_rate, sum(depths)))
    positions = SeparablePositions(dims[0], (frames // 2, *grid(img_size, 4)))
    stem = [Clip(in_chans, dims[0], frames), Prefix(dims[0], {"cls": 1}), positions]
    net = Network(MViT(stem, stages, [*dims[1:], dims[-1]]), token(dims[-1], num_classes, drop_rate))
    initialise(net, linear=trunc02)
    return net


def numbered(depths: Sequence[int], rules: str) -> str:
    """Rules for blocks counted from input to output, `{l}`, that lie in stages here, `{at}`."""
    places = [(s, b) for s, depth in enumerate(depths) for b in range(depth)]
    return "".join(
        rules.replace("{l}", str(i)).replace("{at}", f"backbone.stages.{s}.{b}") for i, (s, b) in enumerate(places)
    )


POOLED = "".join(
    f"blocks.{{l}}.attn.{theirs}_{x} -> {{at}}.attn.pool_{x}.{ours}\n"
    for x in "qkv"
    for theirs, ours in (("pool", "conv"), ("norm", "norm"))
)
BLOCK = POOLED + "blocks.{l}.proj -> {at}.widen\nblocks.{l} -> {at}\n"
ENDS = """
    cls_token           -> backbone.prefix.cls
    pos_embed           -> backbone.positions.table
    pos_embed_spatial   -> backbone.positions.space
    pos_embed_temporal  -> backbone.positions.time
    pos_embed_class     -> backbone.positions.first
    norm                -> head.before
    head.projection     -> head.fc
"""
IMAGE = "patch_embed.proj -> backbone.patches\n"
VIDEO = "patch_embed.proj -> backbone.patches.conv\n"
AUTHORS_IMAGE = ENDS + IMAGE + numbered((1, 2, 11, 2), BLOCK)
AUTHORS_16X4 = ENDS + VIDEO + numbered((1, 2, 11, 2), BLOCK)
AUTHORS_32X3 = ENDS + VIDEO + numbered((2, 3, 16, 3), BLOCK)
TORCHVISION_BLOCK = (
    "".join(
        f"blocks.{{l}}.attn.pool_{x}.pool -> {{at}}.attn.pool_{x}.conv\n"
        f"blocks.{{l}}.attn.pool_{x}.norm_act.0 -> {{at}}.attn.pool_{x}.norm\n"
        for x in "qkv"
    )
    + "".join(f"blocks.{{l}}.attn.rel_pos_{x} -> {{at}}.attn.offsets.{x}\n" for x in "thw")
    + """
    blocks.{l}.attn.project.0 -> {at}.attn.proj
    blocks.{l}.project        -> {at}.widen
    blocks.{l}.mlp.0          -> {at}.mlp.fc1
    blocks.{l}.mlp.3          -> {at}.mlp.fc2
    blocks.{l}                -> {at}
"""
)
TORCHVISION_ENDS = """
    conv_proj                   -> backbone.patches.conv
    pos_encoding.class_token    -> backbone.prefix.cls
    pos_encoding.spatial_pos    -> backbone.positions.space
    pos_encoding.temporal_pos   -> backbone.positions.time
    pos_encoding.class_pos      -> backbone.positions.first
    norm                        -> head.before
    head.1                      -> head.fc
"""
TORCHVISION = TORCHVISION_ENDS + numbered((1, 2, 11, 2), TORCHVISION_BLOCK)
