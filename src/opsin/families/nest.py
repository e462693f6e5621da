"""NesT: small transformers on blocks of an image, merged by fours into blocks of the next level. Zhang et al., 2021

arXiv:2105.12723. Blocks never see each other but in the convolution and pooling between levels, so that a decision can
be followed back down the tree of blocks (`gradcat`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Network, PreNorm, Pyramid
from ..blocks.stage import Stage
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..mixers.attention import attend
from ..registry import about, family
from ..width import Concat, Groups, Width, each


class SameMaxPool2d(nn.Module):
    """3x3, stride 2, the odd pixel below and right, as in TensorFlow and JAX"""

    def forward(self, x: Tensor) -> Tensor:
        h, w = (max((-(side // -2) - 1) * 2 + 3 - side, 0) for side in x.shape[-2:])
        x = F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2), value=float("-inf"))
        return F.max_pool2d(x, 3, 2)


def max_pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, 1)


def aggregate(cin: int, cout: int, pool: Callable[[], nn.Module]) -> nn.Module:
    """Four blocks become one: neighbours meet over the borders of blocks, then half the rows and columns."""
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), LayerNorm(cout, dim=1), pool())


class BlockAttention(nn.Module):
    """Self-attention inside blocks of tokens (B, T, N, C); heads' channels lie interleaved before the projection"""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = Width(heads, "heads")
        inner = Groups(self.heads, dim // heads)
        self.qkv = nn.Linear(dim, Concat(inner, inner, inner))
        self.proj = nn.Linear(Groups(dim // heads, self.heads), dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        y = attend(q, k, v)
        return self.proj(y.permute(0, 1, 3, 4, 2).flatten(3))


class BlockPositions(nn.Module):
    """x + table, over blocks of tokens (B, T, N, C); for other blocks than `grid` the table is resampled, bicubic"""

    axes = {"table": (None, None, None, "dim")}
    no_decay = ("table",)

    def __init__(self, dim: int, count: int, grid: tuple[int, int]):
        super().__init__()
        self.dim, self.grid = dim, grid
        self.table = nn.Parameter(torch.empty(1, count, grid[0] * grid[1], dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        if grid == self.grid:
            return x + self.table
        table = self.table[0].mT.unflatten(2, self.grid)
        return x + F.interpolate(table, grid, mode="bicubic", antialias=True).flatten(2).mT


class Level(Stage):
    """blocks(positions(parts(down(x)))): a map (B, C, H, W), parted into `side` x `side` blocks, and back"""

    def __init__(self, positions: nn.Module, blocks: Iterable[nn.Module], down: nn.Module | None, side: int):
        super().__init__(blocks, down)
        self.positions, self.side = positions, side

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        (h, w), n = x.shape[-2:], self.side
        grid = h // n, w // n
        x = x.unflatten(3, (n, -1)).unflatten(2, (n, -1)).permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)
        x = self.blocks(self.positions(x, grid))
        return x.unflatten(2, grid).unflatten(1, (n, n)).permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def gradcat(net: Network, image: Tensor, label: int | None = None) -> list[tuple[int, int]]:
    """Down the tree of blocks, which quarter a decision comes from; algorithm 1 of the paper.

    Gradient times activation of each level's map, summed over channels, is averaged over the four quarters of the
    block at hand; the path goes on in the greatest.

    Args:
        net: a NesT.
        image: (1, C, H, W).
        label: class to explain; the predicted one for None.

    Returns:
        (row, column) of the chosen quarter at each level but the last below, from the root: two for three levels.
    """
    with torch.enable_grad():
        features = net.backbone(image.requires_grad_(), range(len(net.backbone.widths)))
        logits = net.head(features)[0]
        chosen = logits[int(logits.argmax()) if label is None else label]
        grads = torch.autograd.grad(chosen, features.maps)
    path: list[tuple[int, int]] = []
    for depth, (value, grad) in enumerate(reversed(list(zip(features.maps[1:], grads[1:])))):
        weight = F.adaptive_avg_pool2d((value * grad).sum(1), 2 ** (depth + 1))[0]
        top, left = corner(path)
        best = int(weight[2 * top : 2 * top + 2, 2 * left : 2 * left + 2].argmax())
        path.append((best // 2, best % 2))
    return path


def corner(path: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Row and column of the block that a path of quarters ends in, among those of its level."""
    row = column = 0
    for down, right in path:
        row, column = 2 * row + down, 2 * column + right
    return row, column


TINY: dict[str, Any] = dict(depths=(2, 2, 8), dims=(96, 192, 384), heads=(3, 6, 12))
SMALL: dict[str, Any] = dict(depths=(2, 2, 20), dims=(96, 192, 384), heads=(3, 6, 12))
BASE: dict[str, Any] = dict(depths=(2, 2, 20), dims=(128, 256, 512), heads=(4, 8, 16))


@family(
    about(
        title="Nested Hierarchical Transformer: "
        "Towards Accurate, Data-Efficient and Interpretable Visual Understanding",
        arxiv="2105.12723",
        licence="Apache-2.0",
        multiple=16,
    ),
    nest_tiny=TINY,
    nest_small=SMALL,
    nest_base=BASE,
    nest_tiny_jx={**TINY, "pool": SameMaxPool2d},
    nest_small_jx={**SMALL, "pool": SameMaxPool2d},
    nest_base_jx={**BASE, "pool": SameMaxPool2d},
)
def nest(
    depths: Sequence[int],
    dims: Sequence[int],
    heads: Sequence[int],
    pool: Callable[[], nn.Module] = max_pool,
    patch: int = 4,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """The last level is one block, each one before it has four times as many."""
    dims, drop, top = each(*dims), ramp(drop_path_rate, sum(depths)), len(depths) - 1
    side = img_size // patch // 2**top

    def level(i: int) -> nn.Module:
        blocks = [PreNorm(dims[i], BlockAttention(dims[i], heads[i]), drop=next(drop)) for _ in range(depths[i])]
        positions = BlockPositions(dims[i], 4 ** (top - i), (side, side))
        return Level(positions, blocks, aggregate(dims[i - 1], dims[i], pool) if i else None, 2 ** (top - i))

    stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], patch, patch))
    strides = [patch * 2**i for i in range(len(depths))]
    head = Classifier(dims[-1], num_classes, before=LayerNorm(dims[-1], dim=1), drop=drop_rate)
    levels = [level(i) for i in range(len(depths))]
    net = Network(Pyramid(stem, levels, [dims[0], *dims], [patch, *strides]), head)
    initialise(net, linear=trunc02)
    return net


TIMM = """
    patch_embed.proj                            -> backbone.stem.0
    levels.{s}.pool.conv                        -> backbone.stages.{s}.down.0
    levels.{s}.pool.norm                        -> backbone.stages.{s}.down.1
    levels.{s}.pos_embed                        -> backbone.stages.{s}.positions.table
    levels.{s}.transformer_encoder.{b}.attn     -> backbone.stages.{s}.blocks.{b}.mixer
    levels.{s}.transformer_encoder.{b}          -> backbone.stages.{s}.blocks.{b}
    norm                                        -> head.before
    head                                        -> head.fc
"""
