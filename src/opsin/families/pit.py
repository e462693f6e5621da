"""PiT: a ViT whose tokens grow fewer and wider with depth, as in convolutional networks. Heo et al., arXiv:2103.16302

Between stages a depthwise convolution halves the grid and doubles the channels; class tokens go through a linear layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks import Features, Network, PreNorm
from ..blocks.stage import Blocks
from ..blocks.tokens import Prefix
from ..layers import ramp
from ..layers.init import initialise, trunc02
from ..layers.position import MapPositions
from ..mixers.attention import Attention
from ..registry import about, family
from ..width import Groups, Width
from .vit import distilled, token


class Halve(nn.Module):
    """[fc(prefix), dwconv(grid)]: half the rows and columns, each channel made two"""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.dwconv, self.fc = nn.Conv2d(cin, cout, 3, 2, 1, groups=cin), nn.Linear(cin, cout)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        leading = x.shape[1] - grid[0] * grid[1]
        y = self.dwconv(x[:, leading:].mT.unflatten(2, grid))
        return torch.cat([self.fc(x[:, :leading]), y.flatten(2).mT], 1), y.shape[-2:]


class TokenStage(nn.Module):
    """blocks(down(tokens)), beside the grid that the tokens now have"""

    def __init__(self, blocks: Iterable[nn.Module], down: nn.Module | None):
        super().__init__()
        self.down, self.blocks = down, Blocks(*blocks)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        if self.down is not None:
            x, grid = self.down(x, grid)
        return self.blocks(x), grid


class TokenPyramid(nn.Module):
    """stages(prefix(positions(patches(x)))); a tap is the map of the tokens behind a stage"""

    def __init__(self, stem: Sequence[nn.Module], stages: Sequence[nn.Module], dims: Sequence[int], stride: int):
        super().__init__()
        self.patches, self.positions, self.prefix = stem
        self.stages = nn.ModuleList(stages)
        self.widths, self.strides = list(dims), [stride * 2**i for i in range(len(stages))]

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        x = self.positions(self.patches(x))
        grid, x = x.shape[-2:], self.prefix(x.flatten(2).mT)
        wanted, made, leading = [tap % len(self.stages) for tap in taps], {}, x.shape[1] - grid[0] * grid[1]
        for i, stage in enumerate(islice(self.stages, max(wanted) + 1)):
            x, grid = stage(x, grid)
            if i in wanted:
                made[i] = x[:, leading:].mT.unflatten(2, grid)
        return Features([made[i] for i in wanted], [self.strides[i] for i in wanted], x, leading)


TINY: dict[str, Any] = dict(depths=(2, 6, 4), head_dim=32, heads=(2, 4, 8))
EXTRA_SMALL: dict[str, Any] = dict(depths=(2, 6, 4), head_dim=48, heads=(2, 4, 8))
SMALL: dict[str, Any] = dict(depths=(2, 6, 4), head_dim=48, heads=(3, 6, 12))
BASE: dict[str, Any] = dict(depths=(3, 6, 4), head_dim=64, heads=(4, 8, 16), patch=14, stride=7)
DISTILLED: dict[str, Any] = dict(tokens=2, head=distilled)


@family(
    about(
        title="Rethinking Spatial Dimensions of Vision Transformers",
        arxiv="2103.16302",
        licence="Apache-2.0",
        multiple=8,
    ),
    pit_ti_224=TINY,
    pit_xs_224=EXTRA_SMALL,
    pit_s_224=SMALL,
    pit_b_224=BASE,
    pit_ti_distilled_224={**TINY, **DISTILLED},
    pit_xs_distilled_224={**EXTRA_SMALL, **DISTILLED},
    pit_s_distilled_224={**SMALL, **DISTILLED},
    pit_b_distilled_224={**BASE, **DISTILLED},
)
def pit(
    depths: Sequence[int],
    head_dim: int,
    heads: Sequence[int],
    patch: int = 16,
    stride: int = 8,
    tokens: int = 1,
    head: Callable[..., nn.Module] = token,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`patch` pixels, `stride` apart, make a token; `tokens` of class and distillation stand before them."""
    dims = [Width(head_dim * heads[0], "dim")]
    for before, after in pairwise(heads):
        dims.append(Groups(dims[-1], after // before))
    drop, side = ramp(drop_path_rate, sum(depths)), (img_size - patch) // stride + 1
    stem = [
        nn.Conv2d(in_chans, dims[0], patch, stride),
        MapPositions(dims[0], (side, side)),
        Prefix(dims[0], {"cls": tokens}),
    ]
    stages = [
        TokenStage(
            [PreNorm(dims[i], Attention(dims[i], heads[i]), drop=next(drop)) for _ in range(depth)],
            Halve(dims[i - 1], dims[i]) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    net = Network(TokenPyramid(stem, stages, dims, stride), head(dims[-1], num_classes, drop_rate))
    initialise(net, linear=trunc02)
    return net


TIMM = """
    cls_token                        -> backbone.prefix.cls
    pos_embed                        -> backbone.positions.table
    patch_embed.conv                 -> backbone.patches
    transformers.{s}.pool.conv       -> backbone.stages.{s}.down.dwconv
    transformers.{s}.pool.fc         -> backbone.stages.{s}.down.fc
    transformers.{s}.blocks.{b}.attn -> backbone.stages.{s}.blocks.{b}.mixer
    transformers.{s}.blocks.{b}      -> backbone.stages.{s}.blocks.{b}
    norm                             -> head.before
"""
TIMM_DISTILLED = (
    TIMM
    + """
    head                             -> head.fc.fc
    head_dist                        -> head.fc.distilled
"""
)
TIMM += """
    head                             -> head.fc
"""
