"""CrossViT: two ViTs on patches of two sizes, whose class tokens visit each other. Chen et al., 2021, arXiv:2103.14899

A class token stands for its branch: it asks the other branch's patches, at a cost linear in their number, and brings
back what it heard. The dagger forms make patches by three convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Features, Network, PreNorm
from ..blocks.classify import linear
from ..blocks.stage import Blocks
from ..blocks.tokens import FirstToken, Prefix, TokenClassifier
from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..layers.position import Positions
from ..mixers.attention import Attention
from ..registry import about, family
from ..width import Concat, Groups, Width, each

PATCHES = (12, 16)
SHRINK = 0.7  # patches a side of the second branch, as a share of the first's: 240 pixels as 20 and 14


def patches(cin: int, dim: int, patch: int) -> nn.Module:
    return nn.Conv2d(cin, dim, patch, patch)


def patches_by_three(cin: int, dim: int, patch: int) -> nn.Module:
    a, b = Width(dim // 4, "stem1"), Width(dim // 2, "stem2")
    second = nn.Conv2d(a, b, 3, 3) if patch == 12 else nn.Conv2d(a, b, 3, 2, 1)
    third = nn.Conv2d(b, dim, 3, 1 if patch == 12 else 2, 1)
    return nn.Sequential(nn.Conv2d(cin, a, 7, 4, 3), nn.ReLU(), second, nn.ReLU(), third)


class CrossAttention(nn.Module):
    """proj(softmax(q k^T / sqrt(d)) v), q of the first token alone: (B, 1 + N, C) to (B, 1, C)"""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = Width(heads, "heads")
        inner = Groups(self.heads, dim // heads)
        self.q, self.k, self.v = (nn.Linear(dim, inner) for _ in range(3))
        self.proj = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (self.q(x[:, :1]), self.k(x), self.v(x)))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def translation(cin: int, cout: int) -> nn.Module:
    return nn.Sequential(LayerNorm(cin), GELU(), nn.Linear(cin, cout))


class Visit(nn.Module):
    """back(c + drop(attn(norm([c, patches of the other branch])))), c = there(class token)"""

    def __init__(self, dim: int, other: int, heads: int, drop: float = 0.0):
        super().__init__()
        self.there, self.back = translation(dim, other), translation(other, dim)
        self.norm, self.attn, self.drop = LayerNorm(other), CrossAttention(other, heads), DropPath(drop)

    def forward(self, cls: Tensor, others: Tensor) -> Tensor:
        cls = self.there(cls)
        return self.back(cls + self.drop(self.attn(self.norm(torch.cat([cls, others], 1)))))


class MultiScale(nn.Module):
    """Blocks for each branch, then both class tokens visit the other's patches"""

    def __init__(self, branches: Iterable[nn.Module], visits: Iterable[nn.Module]):
        super().__init__()
        self.branches, self.visits = nn.ModuleList(branches), nn.ModuleList(visits)

    def forward(self, *x: Tensor) -> tuple[Tensor, ...]:
        x = tuple(blocks(tokens) for blocks, tokens in zip(self.branches, x))
        heard = [visit(mine[:, :1], other[:, 1:]) for visit, mine, other in zip(self.visits, x, reversed(x))]
        return tuple(torch.cat([cls, tokens[:, 1:]], 1) for cls, tokens in zip(heard, x))


class TwoBranches(nn.Module):
    """Two sequences of tokens side by side; taps are the maps of the first branch behind each block, then the second's

    The image is resized for the second branch. The class tokens, end to end, are the sequence.
    """

    def __init__(self, stems: Sequence[Sequence[nn.Module]], blocks: Sequence[nn.Module], dims: Sequence[int]):
        super().__init__()
        self.patches, self.prefix, self.positions = (nn.ModuleList(parts) for parts in zip(*stems))
        self.blocks = Blocks(*blocks)
        self.widths = [dim for dim in dims for _ in blocks]
        self.strides = [stride for stride in (12, round(12 / SHRINK)) for _ in blocks]

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        sides = [round(side // PATCHES[0] * SHRINK) * PATCHES[1] for side in x.shape[-2:]]
        maps = [self.patches[0](x), self.patches[1](F.interpolate(x, sides, mode="bicubic"))]
        grids = [m.shape[-2:] for m in maps]
        tokens = [prefix(m.flatten(2).mT) for prefix, m in zip(self.prefix, maps)]
        tokens = [positions(t, grid) for positions, t, grid in zip(self.positions, tokens, grids)]
        behind = []
        for block in self.blocks:
            tokens = self.blocks.run(block, *tokens)
            behind.append(tokens)
        made = [b[i][:, 1:].mT.unflatten(2, grids[i]) for i in range(2) for b in behind]
        sequence = torch.cat([t[:, :1] for t in tokens], 2)
        return Features([made[tap] for tap in taps], [self.strides[tap] for tap in taps], sequence, 1)


class SplitNorm(nn.ModuleList):
    """A LayerNorm of its own for each branch's share of the channels"""

    def forward(self, x: Tensor) -> Tensor:
        norms: Any = self
        parts = x.split([norm.normalized_shape[0] for norm in norms], -1)
        return torch.cat([norm(part) for norm, part in zip(norms, parts)], -1)


class MeanOfBranches(nn.ModuleList):
    """The mean of the branches' classifiers, each on its share of the channels"""

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split([fc.in_features for fc in self], -1)
        return torch.stack([fc(part) for fc, part in zip(self, parts)]).mean(0)


class BranchClassifier(TokenClassifier):
    """fc(drop(the normed class tokens of all branches))"""

    def __init__(self, dims: Sequence[int], num_classes: int, drop: float = 0.0):
        norms = SplitNorm(LayerNorm(dim) for dim in dims)
        super().__init__(Concat(*dims), 0, before=norms, pool=FirstToken(), drop=drop)
        self.dims = tuple(dims)
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        fcs = [linear(dim, num_classes) for dim in self.dims]
        self.fc = MeanOfBranches(fcs) if num_classes else nn.Identity()


def size(dims: tuple[int, int], heads: int, depth: int, ratio: float = 3.0, **more: Any) -> dict[str, Any]:
    """`depth` blocks of the second branch to one of the first, three times."""
    return dict(dims=dims, depth=depth, heads=heads, ratio=ratio, img_size=240, **more)


DAGGER: dict[str, Any] = dict(embed=patches_by_three)
TALL: dict[str, Any] = dict(img_size=408, native=408, embed=patches_by_three)


@family(
    about(
        title="CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image Classification",
        arxiv="2103.14899",
        licence="Apache-2.0",
        native=240,
        multiple=12,
    ),
    crossvit_tiny_240=size((96, 192), 3, 4, 4.0),
    crossvit_small_240=size((192, 384), 6, 4, 4.0),
    crossvit_base_240=size((384, 768), 12, 4, 4.0),
    crossvit_9_240=size((128, 256), 4, 3),
    crossvit_15_240=size((192, 384), 6, 5),
    crossvit_18_240=size((224, 448), 7, 6),
    crossvit_9_dagger_240=size((128, 256), 4, 3, **DAGGER),
    crossvit_15_dagger_240=size((192, 384), 6, 5, **DAGGER),
    crossvit_18_dagger_240=size((224, 448), 7, 6, **DAGGER),
    crossvit_15_dagger_408={**size((192, 384), 6, 5), **TALL},
    crossvit_18_dagger_408={**size((224, 448), 7, 6), **TALL},
)
def crossvit(
    dims: Sequence[int],
    depth: int,
    heads: int,
    ratio: float,
    embed: Callable[[int, int, int], nn.Module] = patches,
    img_size: int = 240,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Three multi-scale blocks of one block in the first branch and `depth` in the second."""
    dims, side = each(*dims), img_size // PATCHES[0]
    drops = list(ramp(drop_path_rate, 3 * depth))

    def branch(i: int, rates: Sequence[float]) -> nn.Module:
        return Blocks(*[PreNorm(dims[i], Attention(dims[i], heads), Mlp(dims[i], ratio), rate) for rate in rates])

    def multiscale(rates: Sequence[float]) -> nn.Module:
        visits = [Visit(dims[i], dims[1 - i], heads, rates[-1]) for i in range(2)]
        return MultiScale([branch(0, rates[:1]), branch(1, rates)], visits)

    stems = [
        (embed(in_chans, dim, patch), Prefix(dim, {"cls": 1}), Positions(dim, (n, n), 1))
        for dim, patch, n in zip(dims, PATCHES, (side, round(side * SHRINK)))
    ]
    blocks = [multiscale(drops[i * depth : (i + 1) * depth]) for i in range(3)]
    net = Network(TwoBranches(stems, blocks, dims), BranchClassifier(dims, num_classes, drop_rate))
    initialise(net, linear=trunc02)
    return net


TIMM = """
    pos_embed_{i}                           -> backbone.positions.{i}.table
    cls_token_{i}                           -> backbone.prefix.{i}.cls
    patch_embed.{i}.proj                    -> backbone.patches.{i}
    blocks.{l}.blocks.{i}.{b}.attn          -> backbone.blocks.{l}.branches.{i}.{b}.mixer
    blocks.{l}.blocks.{i}.{b}               -> backbone.blocks.{l}.branches.{i}.{b}
    blocks.{l}.projs.{i}                    -> backbone.blocks.{l}.visits.{i}.there
    blocks.{l}.revert_projs.{i}             -> backbone.blocks.{l}.visits.{i}.back
    blocks.{l}.fusion.{i}.norm1             -> backbone.blocks.{l}.visits.{i}.norm
    blocks.{l}.fusion.{i}.attn.wq           -> backbone.blocks.{l}.visits.{i}.attn.q
    blocks.{l}.fusion.{i}.attn.wk           -> backbone.blocks.{l}.visits.{i}.attn.k
    blocks.{l}.fusion.{i}.attn.wv           -> backbone.blocks.{l}.visits.{i}.attn.v
    blocks.{l}.fusion.{i}.attn.proj         -> backbone.blocks.{l}.visits.{i}.attn.proj
    norm.{i}                                -> head.before.{i}
    head.{i}                                -> head.fc.{i}
"""
