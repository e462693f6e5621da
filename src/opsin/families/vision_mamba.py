"""Vision Mamba (Vim): a ViT whose blocks are state spaces read from both ends. Zhu et al., 2024, arXiv:2401.09417

There are no pairs of linear layers. The class token stands in the middle of the sequence, where both directions have
seen half of the image. Networks of stride 8 cut patches that overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..blocks import Features, Network
from ..blocks.prenorm import PreMix
from ..blocks.stage import Blocks
from ..blocks.tokens import FirstToken, Prefix, TokenClassifier
from ..layers import ramp
from ..layers.init import initialise, trunc02
from ..layers.norm import RMSNorm
from ..layers.position import grid, resampled
from ..mixers.bidirectional import BidirectionalMamba
from ..registry import UnsupportedArgument, about, family
from ..width import Width

Order = Callable[[int], Sequence[int]]  # of a number of patches to the places of the other tokens among them
norm = partial(RMSNorm, eps=1e-5)


def middle(patches: int) -> list[int]:
    return [patches // 2]


def first(patches: int) -> list[int]:
    return [0]


def ends(patches: int) -> list[int]:
    return [0, patches]


def nowhere(patches: int) -> list[int]:
    return []


class Among(nn.Module):
    """Tokens (B, P + N, C) in the order of the scan, the P others where `order` puts them, plus a table of positions

    On another grid than its own the patches' rows of the table are resampled, bicubic and antialiased.
    """

    axes = {"table": (None, None, "dim")}
    no_decay = ("table",)

    def __init__(self, dim: int, grid: tuple[int, int], order: Order):
        super().__init__()
        self.dim, self.grid, self.order = dim, grid, order
        self.prefix = len(order(grid[0] * grid[1]))
        self.table = nn.Parameter(torch.empty(1, self.prefix + grid[0] * grid[1], dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def placed(self, patches: int) -> Any:
        """Which token of the common order, where others come first, stands at each place of the scan."""
        return np.insert(np.arange(patches) + self.prefix, self.order(patches), np.arange(self.prefix))

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        here = torch.from_numpy(self.placed(grid[0] * grid[1])).to(x.device)
        if tuple(grid) == self.grid:
            return x.index_select(1, here) + self.table
        common = self.sorted(self.table, self.grid)
        return (x + resampled(common, self.prefix, self.grid, grid)).index_select(1, here)

    def sorted(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens in the order of the scan back in the common one."""
        back = torch.from_numpy(np.argsort(self.placed(grid[0] * grid[1]))).to(x.device)
        return x.index_select(1, back)


class ScannedTokens(nn.Module):
    """blocks(positions(prefix(patches(x)))); a tap is the map of the patches' tokens behind a block"""

    def __init__(
        self, patches: nn.Module, prefix: nn.Module, positions: Among, blocks: Iterable[nn.Module], stride: int
    ):
        super().__init__()
        self.patches, self.prefix, self.positions, self.blocks = patches, prefix, positions, Blocks(*blocks)
        self.widths, self.strides = [positions.dim] * len(self.blocks), [stride] * len(self.blocks)

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        x = self.patches(x)
        grid, leading = (x.shape[2], x.shape[3]), self.positions.prefix
        x = self.positions(self.prefix(x.flatten(2).mT), grid)
        wanted, made = [tap % len(self.blocks) for tap in taps], {}
        for i, block in enumerate(islice(self.blocks, max(wanted) + 1)):
            x = self.blocks.run(block, x)
            if i in wanted:
                made[i] = self.positions.sorted(x, grid)
        maps = [made[i][:, leading:].mT.unflatten(2, grid) for i in wanted]
        return Features(maps, [self.strides[i] for i in wanted], made[max(wanted)], leading)


def steps(img_size: int | tuple[int, int], patch: int, stride: int) -> tuple[int, int]:
    """Rows and columns of patches, `stride` pixels apart.

    Raises:
        UnsupportedArgument: a size that patches do not fill.
    """
    rows, columns = grid(img_size, patch)
    if patch % stride:
        raise UnsupportedArgument(f"patches of {patch} pixels do not lie {stride} apart: take a divisor")
    return (rows - 1) * patch // stride + 1, (columns - 1) * patch // stride + 1


def one_token(dim: int, num_classes: int, drop: float, norm: Callable[[int], nn.Module]) -> nn.Module:
    return TokenClassifier(dim, num_classes, before=norm(dim), pool=FirstToken(), drop=drop)


def mixed(dim: int, mixer: Callable[[int], nn.Module], norm: Callable[[int], nn.Module], drop: float) -> nn.Module:
    return PreMix(norm(dim), mixer(dim), drop)


@family(
    about(
        title="Vision Mamba: Efficient Visual Representation Learning with Bidirectional State Space Model",
        arxiv="2401.09417",
        licence="Apache-2.0",
        multiple=16,
    ),
    vim_tiny_patch16_224=dict(dim=192, img_size=224),
    vim_tiny_patch16_stride8_224=dict(dim=192, img_size=224, stride=8),
    vim_small_patch16_224=dict(dim=384, img_size=224),
    vim_small_patch16_stride8_224=dict(dim=384, img_size=224, stride=8),
    vim_base_patch16_224=dict(dim=768, img_size=224),
)
def vision_mamba(
    dim: int,
    depth: int = 24,
    patch: int = 16,
    stride: int = 16,
    mixer: Callable[[int], nn.Module] = BidirectionalMamba,
    norm: Callable[[int], nn.Module] = norm,
    block: Callable[..., nn.Module] = mixed,
    tokens: Mapping[str, int] = MappingProxyType({"cls": 1}),
    order: Order = middle,
    head: Callable[..., nn.Module] = one_token,
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Patches `stride` pixels apart; `order` puts the other `tokens` among them, `head` reads them."""
    dim, drop = Width(dim, "dim"), ramp(drop_path_rate, depth)
    positions = Among(dim, steps(img_size, patch, stride), order)
    prefix = Prefix(dim, tokens) if tokens else nn.Identity()
    blocks = [block(dim, mixer, norm, next(drop)) for _ in range(depth)]
    backbone = ScannedTokens(nn.Conv2d(in_chans, dim, patch, stride), prefix, positions, blocks, stride)
    net = Network(backbone, head(dim, num_classes, drop_rate, norm))
    initialise(net.head, linear=trunc02)
    for name, p in backbone.blocks.named_parameters():
        if name.endswith("mixer.out.weight"):
            p.data /= depth**0.5
    return net


AUTHORS = """
    rope                             ->
    cls_token                        -> backbone.prefix.cls
    pos_embed                        -> backbone.positions.table
    patch_embed.proj                 -> backbone.patches
    layers.{b}.mixer.in_proj         -> backbone.blocks.{b}.mixer.proj
    layers.{b}.mixer.conv1d          -> backbone.blocks.{b}.mixer.convs.0
    layers.{b}.mixer.x_proj          -> backbone.blocks.{b}.mixer.spaces.0.read
    layers.{b}.mixer.dt_proj         -> backbone.blocks.{b}.mixer.spaces.0.dt
    layers.{b}.mixer.A_log           -> backbone.blocks.{b}.mixer.spaces.0.log_decay
    layers.{b}.mixer.D               -> backbone.blocks.{b}.mixer.spaces.0.skip
    layers.{b}.mixer.conv1d_b        -> backbone.blocks.{b}.mixer.convs.1
    layers.{b}.mixer.x_proj_b        -> backbone.blocks.{b}.mixer.spaces.1.read
    layers.{b}.mixer.dt_proj_b       -> backbone.blocks.{b}.mixer.spaces.1.dt
    layers.{b}.mixer.A_b_log         -> backbone.blocks.{b}.mixer.spaces.1.log_decay
    layers.{b}.mixer.D_b             -> backbone.blocks.{b}.mixer.spaces.1.skip
    layers.{b}.mixer.out_proj        -> backbone.blocks.{b}.mixer.out
    layers.{b}.norm                  -> backbone.blocks.{b}.norm
    norm_f                           -> head.before
    head                             -> head.fc
"""
