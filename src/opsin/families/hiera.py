"""Hiera: MViTv2 without the trimmings, which masked pretraining makes superfluous. Ryali et al., 2023, arXiv:2306.00989

Early stages attend inside mask units, squares that masking hides whole; queries are pooled by a plain maximum. The
`abswin` forms place pixels in their units and units in the image (Bolya et al., 2023, arXiv:2311.05613).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid
from ..blocks.stage import LastStage
from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm, Scale, ramp
from ..layers.init import initialise, trunc02
from ..layers.position import Positions, grid
from ..mixers.window import parted, whole
from ..registry import about, family
from ..width import Concat, Groups, Width, each

UNIT = 8  # side of a mask unit on the first map


def halved(x: Tensor) -> Tensor:
    """The maximum of 2x2 neighbours of a (B, H, W, C) map."""
    top, bottom = x[:, ::2], x[:, 1::2]
    rows = torch.maximum(top, bottom)
    return torch.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def unchanged(x: Tensor) -> Tensor:
    return x


class UnitAttention(nn.Module):
    """proj(softmax(pool(q) k^T / sqrt(d)) v) inside squares of `side` pixels of a (B, H, W, C) map; 0: the whole map"""

    def __init__(self, dim: int, cout: int, heads: int, side: int, pool: Callable[[Tensor], Tensor]):
        super().__init__()
        self.heads, self.side, self.pool = Width(heads, "heads"), side, pool
        inner = Groups(self.heads, cout // heads)
        self.qkv, self.proj = nn.Linear(dim, Concat(inner, inner, inner)), nn.Linear(inner, cout)

    def forward(self, x: Tensor) -> Tensor:
        tokens, cells = parted(x, self.side) if self.side else (x.flatten(1, 2), (1, 1))
        q, k, v = self.qkv(tokens).chunk(3, -1)
        q = self.pool(q.unflatten(1, (self.side, self.side) if self.side else x.shape[1:3]))
        sides = q.shape[1:3]
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q.flatten(1, 2), k, v))
        y = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return whole(y, sides[0], cells) if self.side else y.unflatten(1, sides)


class Widened(nn.Linear):
    """The larger of 2x2 neighbours' projections, of maps that are normed"""

    def forward(self, input: Tensor, *normed: Tensor) -> Tensor:
        return halved(super().forward(*normed))


class Doubled(nn.Module):
    """The largest and the mean of 2x2 neighbours as twice the channels, of maps as they are"""

    def forward(self, x: Tensor, normed: Tensor) -> Tensor:
        return torch.cat([halved(x), F.avg_pool2d(x.movedim(-1, 1), 2).movedim(1, -1)], -1)


class HieraBlock(nn.Module):
    """x = (x or widen(x, norm1(x))) + drop(scale1(attn(norm1(x)))), then x + drop(scale2(mlp(norm2(x))))"""

    def __init__(
        self,
        dim: int,
        cout: int,
        heads: int,
        side: int,
        drop: float = 0.0,
        widen: Callable[[int, int], nn.Module] = Widened,
        scale: float | None = None,
    ):
        super().__init__()
        self.widen = None if dim is cout else widen(dim, cout)
        pool = unchanged if self.widen is None else halved
        self.norm1, self.attn = LayerNorm(dim), UnitAttention(dim, cout, heads, side, pool)
        self.norm2, self.mlp, self.drop = LayerNorm(cout), Mlp(cout), DropPath(drop)
        self.scale1 = nn.Identity() if scale is None else Scale(cout, scale)
        self.scale2 = nn.Identity() if scale is None else Scale(cout, scale)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x if self.widen is None else self.widen(x, normed)
        x = x + self.drop(self.scale1(self.attn(normed)))
        return x + self.drop(self.scale2(self.mlp(self.norm2(x))))


class UnitPositions(nn.Module):
    """x + table stretched over the grid, bicubic and antialiased, + one table for the pixels of every mask unit"""

    axes = {"table": (None, "dim"), "unit": (None, "dim")}
    no_decay = ("table", "unit")

    def __init__(self, dim: int, side: int):
        super().__init__()
        self.dim = dim
        self.table = nn.Parameter(torch.empty(1, dim, side, side))
        self.unit = nn.Parameter(torch.empty(1, dim, UNIT, UNIT))
        for p in (self.table, self.unit):
            nn.init.trunc_normal_(p, std=0.02)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        table = F.interpolate(self.table, grid, mode="bicubic", antialias=True)
        unit = self.unit.tile(grid[0] // UNIT, grid[1] // UNIT)
        return x + (table + unit).flatten(2).mT


class Placed(nn.Module):
    """positions(patches(x)), a map"""

    def __init__(self, patches: nn.Module, positions: nn.Module):
        super().__init__()
        self.patches, self.positions = patches, positions

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        sides = (x.shape[2], x.shape[3])
        return self.positions(x.flatten(2).mT, sides).mT.unflatten(2, sides)


SMALL: dict[str, Any] = dict(depths=(1, 2, 11, 2))
BASE: dict[str, Any] = dict(depths=(2, 3, 16, 3))


def placed(dim: int, img_size: int) -> nn.Module:
    return Positions(dim, grid(img_size, 4))


def by_unit(dim: int, img_size: int, side: int = 14) -> nn.Module:
    return UnitPositions(dim, side)


def doubling(dim: int) -> list[int]:
    """Widths of stages that each hand on twice the channels of the one before, beside each other."""
    dims: list[int] = [Width(dim, "dim")]
    for _ in range(3):
        dims.append(Concat(dims[-1], dims[-1]))
    return dims


def free(dim: int) -> list[int]:
    return [*each(*[dim * 2**s for s in range(4)])]


ABSWIN: dict[str, Any] = dict(
    title="Window Attention is Bugged: How not to Interpolate Position Embeddings",
    arxiv="2311.05613",
    positions=by_unit,
    scale=1e-5,
    img_size=256,
)


@family(
    about(
        title="Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles",
        arxiv="2306.00989",
        licence="Apache-2.0",
        multiple=32,
    ),
    hiera_tiny_224=dict(depths=(1, 2, 7, 2)),
    hiera_small_224=SMALL,
    hiera_base_224=BASE,
    hiera_base_plus_224=dict(**BASE, dim=112, heads=2),
    hiera_large_224=dict(depths=(2, 6, 36, 4), dim=144, heads=2),
    hiera_huge_224=dict(depths=(2, 6, 36, 4), dim=256, heads=4),
    hiera_base_abswin_256=dict(**BASE, **ABSWIN),
    hiera_small_abswin_256={
        **SMALL,
        **ABSWIN,
        "positions": partial(by_unit, side=16),
        "widen": lambda dim, cout: Doubled(),
        "widths": doubling,
    },
)
def hiera(
    depths: Sequence[int],
    dim: int = 96,
    heads: int = 1,
    positions: Callable[[int, int], nn.Module] = placed,
    widen: Callable[[int, int], nn.Module] = Widened,
    widths: Callable[[int], list[int]] = free,
    scale: float | None = None,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """The first block of a later stage widens and pools, still inside the units of the stage before."""
    dims, drop = widths(dim), ramp(drop_path_rate, sum(depths))

    def block(s: int, b: int) -> nn.Module:
        first = s > 0 and b == 0
        before = s - first  # the stage whose map the block sees
        side = UNIT // 2**before if before < 2 else 0
        return HieraBlock(dims[before], dims[s], heads * 2**s, side, next(drop), widen, scale)

    stem = Placed(nn.Conv2d(in_chans, dims[0], 7, 4, 3), positions(dims[0], img_size))
    stages = [LastStage([block(s, b) for b in range(depth)]) for s, depth in enumerate(depths)]
    head = Classifier(dims[-1], num_classes, after=LayerNorm(dims[-1]), drop=drop_rate)
    net = Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, linear=trunc02)
    return net


def numbered(*depths: int) -> str:
    """Rules for blocks counted from input to output."""
    places = [f"backbone.stages.{s}.blocks.{b}" for s, depth in enumerate(depths) for b in range(depth)]
    return ENDS + "".join(
        f"blocks.{i}.proj -> {at}.widen\n{scales(i, at)}blocks.{i} -> {at}\n" for i, at in enumerate(places)
    )


def scales(i: int, at: str) -> str:
    return "".join(f"blocks.{i}.ls{n}.gamma -> {at}.scale{n}.gamma\n" for n in (1, 2))


ENDS = """
    pos_embed_win       -> backbone.stem.positions.unit
    patch_embed.proj    -> backbone.stem.patches
    pos_embed           -> backbone.stem.positions.table
    head.norm           -> head.after
    head.fc             -> head.fc
"""
TIMM_12 = numbered(1, 2, 7, 2)
TIMM_16 = numbered(1, 2, 11, 2)
TIMM_24 = numbered(2, 3, 16, 3)
TIMM_48 = numbered(2, 6, 36, 4)
