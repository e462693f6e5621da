"""PlainMamba: state spaces of one width throughout that follow a snake's path. Yang et al., 2024, arXiv:2403.17695"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Network
from ..blocks.prenorm import PreMix
from ..blocks.tokens import GridTokens, MeanToken, TokenClassifier
from ..layers import Conv, LayerNorm, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..layers.position import SharpPositions, grid
from ..mixers.snake_scan import SnakeMamba
from ..registry import about, family
from ..width import Width


class Cover(nn.Module):
    """Zeros below and right, so that the sides are multiples of `step`"""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, -x.shape[3] % self.step, 0, -x.shape[2] % self.step))


class Conditioned(nn.Module):
    """gelu(norm(dwconv(block(x)))): a block, and what a place and its neighbours make of it"""

    def __init__(self, dim: int, block: nn.Module):
        super().__init__()
        self.dwconv, self.block = Conv(dim, dim, groups=dim, act=GELU), block

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.dwconv(self.block(x, grid).mT.unflatten(2, grid)).flatten(2).mT


def stem(in_chans: int, dim: int, convs: int, patch: int, hidden: int = 64) -> nn.Module:
    widths = [Width(hidden, "stem") for _ in range(convs + 1)]
    more = [Conv(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(
        Conv(in_chans, widths[0], 7, 2),
        nn.Sequential(*more),
        Cover(patch // 2),
        nn.Conv2d(widths[-1], dim, patch // 2, patch // 2),
    )


@family(
    about(
        title="PlainMamba: Improving Non-Hierarchical Mamba in Visual Recognition",
        arxiv="2403.17695",
        licence="Apache-2.0",
    ),
    plainmamba_l1=dict(dim=192, depth=24, convs=1, conditioned=(0,), img_size=224),
    plainmamba_l2=dict(dim=384, depth=24, img_size=224),
    plainmamba_l3=dict(dim=448, depth=36, img_size=224),
)
def plain_mamba(
    dim: int,
    depth: int,
    convs: int = 2,
    conditioned: Sequence[int] = (),
    patch: int = 16,
    mixer: Callable[[int], nn.Module] = SnakeMamba,
    norm: Callable[[int], nn.Module] = partial(LayerNorm, eps=1e-5),
    img_size: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`conditioned` are the blocks that end with a convolution."""
    dim, drop = Width(dim, "dim"), ramp(drop_path_rate, depth)
    blocks: list[nn.Module] = [PreMix(norm(dim), mixer(dim), next(drop)) for _ in range(depth)]
    for i in conditioned:
        blocks[i] = Conditioned(dim, blocks[i])
    positions = SharpPositions(dim, grid(img_size, patch))
    backbone = GridTokens(stem(in_chans, dim, convs, patch), None, positions, blocks, patch)
    head = TokenClassifier(dim, num_classes, before=LayerNorm(dim), pool=MeanToken(), drop=drop_rate)
    net = Network(backbone, head)
    initialise(net, linear=trunc02)
    return net


def block(theirs: str, ours: str) -> str:
    """Rules for the authors' blocks."""
    return f"""
    {theirs}.mamba.A_log          -> {ours}.mixer.space.log_decay
    {theirs}.mamba.D              -> {ours}.mixer.space.skip
    {theirs}.mamba.direction_Bs   -> {ours}.mixer.space.moves
    {theirs}.mamba.in_proj        -> {ours}.mixer.proj
    {theirs}.mamba.conv2d         -> {ours}.mixer.conv
    {theirs}.mamba.x_proj         -> {ours}.mixer.space.read
    {theirs}.mamba.dt_proj        -> {ours}.mixer.space.dt
    {theirs}.mamba.out_proj       -> {ours}.mixer.out
    {theirs}.norm                 -> {ours}.norm
"""


def authors(conditioned: Sequence[int] = ()) -> str:
    """The authors' names, for networks in which those blocks end with a convolution."""
    special = "".join(
        f"""
    backbone.layers.{i}.dw.0                  -> backbone.blocks.{i}.dwconv.conv
    backbone.layers.{i}.dw.1                  -> backbone.blocks.{i}.dwconv.norm
"""
        + block(f"backbone.layers.{i}", f"backbone.blocks.{i}.block")
        for i in conditioned
    )
    return special + block("backbone.layers.{b}", "backbone.blocks.{b}") + ENDS


ENDS = """
    backbone.patch_embed.stem.0              -> backbone.patches.0.conv
    backbone.patch_embed.stem.1              -> backbone.patches.0.norm
    backbone.patch_embed.convs.0             -> backbone.patches.1.0.conv
    backbone.patch_embed.convs.1             -> backbone.patches.1.0.norm
    backbone.patch_embed.convs.3             -> backbone.patches.1.1.conv
    backbone.patch_embed.convs.4             -> backbone.patches.1.1.norm
    backbone.patch_embed.projection          -> backbone.patches.3
    backbone.pos_embed                       -> backbone.positions.table
    backbone.ln1                             -> head.before
    head.fc                                  -> head.fc
"""
AUTHORS_L1, AUTHORS = authors((0,)), authors()
