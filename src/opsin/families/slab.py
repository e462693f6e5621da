"""SLAB: transformers whose norms end as batch normalisation, with simplified linear attention. Guo et al., 2024

arXiv:2405.11582. DeiT and Swin bodies: PRepBN takes LayerNorm's place everywhere and melts into the linear layers when
the network is merged; in Swin the first stages attend linearly to the whole map, the last ones in windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..blocks import Classifier, Network, PreNorm, Pyramid
from ..blocks.layouts import Grid, Last
from ..blocks.stage import LastStage
from ..blocks.tokens import GridTokens, MeanToken, TokenClassifier
from ..layers import ramp
from ..layers.init import initialise, trunc02
from ..layers.position import Positions, grid
from ..layers.prepbn import ProgressiveNorm, absorbed
from ..mixers.sla import SimplifiedAttention, Windows
from ..mixers.window import WindowAttention
from ..registry import about, family
from ..width import Concat, Width, each
from .swin import PatchMerging

SLAB = about(
    title="SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized Batch "
    "Normalization",
    arxiv="2405.11582",
    licence="NONE",
)


class ProgressiveBlock(PreNorm):
    """The residual pair with progressive norms; `merged` has none of them left where a linear layer follows"""

    def __init__(self, dim: int, mixer: nn.Module, drop: float = 0.0, eps: float = 1e-5):
        super().__init__(dim, mixer, drop=drop)
        for name in ("norm1", "norm2"):
            setattr(self, name, ProgressiveNorm(dim, eps))

    def merged(self) -> nn.Module:
        block: Any = self
        inner = getattr(block.mixer, "op", None)
        first, second = block.norm1.merged(), block.norm2.merged()
        if isinstance(inner, SimplifiedAttention):  # windows pad with zeros behind the norm: theirs must stay
            inner.qkv, first = absorbed(first, inner.qkv), nn.Identity()
        block.mlp.fc1 = absorbed(second, block.mlp.fc1)
        block.norm1, block.norm2 = first, nn.Identity()
        return self


class ProgressiveMerging(PatchMerging):
    """Patch merging with a progressive norm"""

    def __init__(self, cin: int, cout: int):
        super().__init__(cin, cout)
        self.norm = ProgressiveNorm(Concat(cin, cin, cin, cin))


@family(
    SLAB,
    slab_deit_t=dict(dim=192, heads=3, multiple=16),
    slab_deit_s=dict(dim=384, heads=6, multiple=16),
)
def slab_deit(
    dim: int,
    heads: int,
    depth: int = 12,
    patch: int = 16,
    img_size: int | tuple[int, int] = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dim, drop, sides = Width(dim, "dim"), ramp(drop_path_rate, depth), grid(img_size, patch)
    blocks = [
        ProgressiveBlock(dim, Grid(SimplifiedAttention(dim, heads, sides)), next(drop), eps=1e-6) for _ in range(depth)
    ]
    backbone = GridTokens(nn.Conv2d(in_chans, dim, patch, patch), None, Positions(dim, sides), blocks, patch)
    head = TokenClassifier(dim, num_classes, ProgressiveNorm(dim, 1e-6), MeanToken(), drop=drop_rate)
    net = Network(backbone, head)
    initialise(net, linear=trunc02)
    return net


@family(
    SLAB,
    slab_swin_t=dict(depths=(2, 2, 6, 2), dim=96, heads=(3, 6, 12, 24), linear=(2, 2, 0, 0)),
    slab_swin_s=dict(depths=(2, 2, 18, 2), dim=96, heads=(3, 6, 12, 24), linear=(2, 2, 0, 0)),
    slab_swin_b=dict(depths=(2, 2, 18, 2), dim=128, heads=(4, 8, 16, 32), linear=(2, 2, 0, 0)),
)
def slab_swin(
    depths: Sequence[int],
    dim: int,
    heads: Sequence[int],
    linear: Sequence[int],
    window: int = 7,
    reach: int = 56,
    img_size: int | tuple[int, int] = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """The first `linear` blocks of a stage attend linearly inside `reach` pixels, the others in shifted windows."""
    dims, drop = each(*[dim * 2**i for i in range(len(depths))]), ramp(drop_path_rate, sum(depths))
    sides = grid(img_size, 4)

    def block(i: int, j: int) -> nn.Module:
        if j >= linear[i]:
            mixer: nn.Module = WindowAttention(dims[i], heads[i], window, shift=window // 2 if j % 2 else 0)
        else:
            rows, columns = (min(reach, -(-side // 2**i)) for side in sides)
            mixer = Windows(SimplifiedAttention(dims[i], heads[i], (rows, columns)), reach)
        return ProgressiveBlock(dims[i], mixer, next(drop))

    stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 4, 4), Last(ProgressiveNorm(dims[0])))
    stages = [
        LastStage([block(i, j) for j in range(depth)], ProgressiveMerging(dims[i - 1], dims[i]) if i else None)
        for i, depth in enumerate(depths)
    ]
    head = Classifier(dims[-1], num_classes, before=Last(ProgressiveNorm(dims[-1])), drop=drop_rate)
    backbone = Pyramid(stem, stages, [dims[0], *dims], [4, *[4 * 2**i for i in range(len(depths))]])
    net = Network(backbone, head)
    initialise(net, linear=trunc02)
    return net


def norm(theirs: str, ours: str) -> str:
    """Rules for a progressive norm; its counters have no place here."""
    return f"""
    {theirs}.norm1        -> {ours}.layer
    {theirs}.norm2.alpha  -> {ours}.batch.alpha
    {theirs}.norm2.bn     -> {ours}.batch.norm
    {theirs}.warm         ->
    {theirs}.iter         ->
    {theirs}.total_step   ->
    {theirs}.norm2.warm   ->
    {theirs}.norm2.iter   ->
    {theirs}.norm2.total_step ->"""


def block(theirs: str, ours: str, linear: str) -> str:
    """Rules for a block, whose linear attention is `linear` here."""
    return f"""
    {theirs}.attn.relative_position_bias_table -> {ours}.mixer.bias.table
    {theirs}.attn.relative_position_index      ->
    {theirs}.attn_mask                         ->
    {theirs}.attn.positional_encoding -> {linear}.table
    {theirs}.attn.dwc                 -> {linear}.dwconv
    {theirs}.mlp                      -> {ours}.mlp""" + "".join(
        norm(f"{theirs}.norm{i}", f"{ours}.norm{i}") for i in (1, 2)
    )


AUTHORS_DEIT = (
    block("blocks.{b}", "backbone.blocks.{b}", "backbone.blocks.{b}.mixer.op")
    + norm("norm", "head.before")
    + """
    blocks.{b}.attn    -> backbone.blocks.{b}.mixer.op
    cls_token          ->
    pos_embed          -> backbone.positions.table
    patch_embed.proj   -> backbone.patches
    head               -> head.fc
"""
)


def authors_swin(linear: Sequence[int], depths: Sequence[int]) -> str:
    """The table for a network whose stages begin with so many linear blocks: attentions are named alike there."""
    rules = ""
    for i, depth in enumerate(depths):
        for j in range(depth):
            ours = f"backbone.stages.{i}.blocks.{j}"
            inner = f"{ours}.mixer.mixer" if j < linear[i] else f"{ours}.mixer.attn"
            theirs = f"layers.{i}.blocks.{j}"
            rules += (
                block(theirs, ours, inner)
                + f"""
    {theirs}.attn      -> {inner}"""
            )
        rules += (
            norm(f"layers.{i}.downsample.norm", f"backbone.stages.{i + 1}.down.norm")
            + f"""
    layers.{i}.downsample.reduction -> backbone.stages.{i + 1}.down.proj"""
        )
    ends = norm("patch_embed.norm", "backbone.stem.1.op") + norm("norm", "head.before.op")
    return (
        rules
        + ends
        + """
    patch_embed.proj   -> backbone.stem.0
    head               -> head.fc
"""
    )


AUTHORS_SWIN_T = authors_swin((2, 2, 0, 0), (2, 2, 6, 2))
AUTHORS_SWIN = authors_swin((2, 2, 0, 0), (2, 2, 18, 2))
