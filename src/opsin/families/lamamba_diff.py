"""LaMamba-Diff: a diffusion U-Net of snake scans and shifted windows. Fu et al., 2024, arXiv:2408.02615

Takes noisy latents (B, 4, R, R), steps (B) and labels (B), row `classes` standing for none; predicts noise and its
variance (B, 8, R, R).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..channels.mlp import Mlp
from ..layers import LayerNorm
from ..layers.scan_order import windings
from ..layers.timestep import Modulate, Timestep
from ..mixers.cross_scan import GatedCrossScan, dwconv
from ..mixers.window import WindowAttention
from .swin import PatchMerging
from .vmamba import scan

norm = partial(LayerNorm, eps=1e-5)
SnakeScan = partial(GatedCrossScan, states=1, expand=2.0, conv=dwconv, order=windings)
Mixer = Callable[[int], nn.Module]


class ConditionedBlock(nn.Module):
    """x <- x + gate f(norm(x) (1 + scale) + shift) for f = scan, windowed attention, mlp, over maps (B, H, W, C)

    Gates, scales and shifts are read off the condition c (B, D).
    """

    def __init__(self, dim: int, seen: int, mixer: Mixer, heads: int, window: int, shift: int, project: bool):
        super().__init__()
        self.project = nn.Linear(seen, dim) if project else nn.Identity()
        self.modulate = Modulate(dim, dim, 9)
        self.norms = nn.ModuleList(norm(dim) for _ in range(3))
        self.parts = nn.ModuleList([mixer(dim), WindowAttention(dim, heads, window, shift), Mlp(dim)])

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        told = [t[:, None, None] for t in self.modulate(self.project(c))]
        for i, (part, norm) in enumerate(zip(self.parts, self.norms)):
            shift, scale, gate = told[3 * i : 3 * i + 3]
            x = x + gate * part(norm(x) * (1 + scale) + shift)
        return x


class PatchExpanding(nn.Module):
    """norm(proj(x) as 2x2 places), twice the height and width and half the channels of (B, H, W, C)"""

    def __init__(self, dim: int):
        super().__init__()
        self.proj, self.norm = nn.Linear(dim, 2 * dim, bias=False), norm(dim // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(unfolded(self.proj(x), 2))


def unfolded(x: Tensor, by: int) -> Tensor:
    """Channels (row, column, c) of (B, H, W, C) as `by` times as many rows and columns."""
    x = x.unflatten(-1, (by, by, -1)).permute(0, 1, 3, 2, 4, 5)
    return x.flatten(3, 4).flatten(1, 2)


class Level(nn.Module):
    """Blocks at one resolution, all told the same"""

    def __init__(self, blocks: Sequence[nn.Module]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, c)
        return x


class LaMambaDiff(nn.Module):
    """Levels down to a quarter of the resolution, a middle, and levels up that are given what went down

    `dims` are d, 2d, 4d, 4d; the levels on the way up have `wider` blocks more.
    """

    no_decay = ("positions",)

    def __init__(
        self,
        dims: Sequence[int],
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (8, 8, 8, 8),
        middle: int = 2,
        wider: int = 1,
        window: int = 8,
        size: tuple[int, int] = (32, 1000),
        mixer: Mixer = SnakeScan,
    ):
        super().__init__()
        side, classes = size
        last = dims[-1]
        sides = [side, side // 2, side // 4, side // 4]

        def level(i: int, depth: int, up: bool) -> Level:
            near = min(window, sides[i])
            shifts = [near // 2 if j % 2 and sides[i] > window else 0 for j in range(depth)]
            project = up or dims[i] != last
            return Level([ConditionedBlock(dims[i], last, mixer, heads[i], near, s, project) for s in shifts])

        self.patches, self.norm = nn.Conv2d(4, dims[0], 1), norm(dims[0])
        self.positions = nn.Parameter(sines(side, dims[0]))
        self.time, self.labels = Timestep(last, last, 256), nn.Embedding(classes + 1, last)
        self.levels = nn.ModuleList(level(i, depths[i], False) for i in range(4))
        self.merge = nn.ModuleList(PatchMerging(dims[i], dims[i + 1]) for i in range(2))
        self.middle = level(3, middle, False)
        self.up = nn.ModuleList(level(i, depths[i] + wider, True) for i in (3, 2, 1, 0))
        self.expand = nn.ModuleList(PatchExpanding(dims[i]) for i in (2, 1))
        self.final = nn.Sequential(nn.Linear(dims[0], dims[0], bias=False), norm(dims[0]))
        self.project, self.modulate = nn.Linear(last, dims[0]), Modulate(dims[0], dims[0], 2)
        self.out = nn.Linear(dims[0], 8)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        c = self.time(t) + self.labels(labels)
        x = self.norm(self.patches(x).movedim(1, -1)) + self.positions
        kept = []
        for i, level in enumerate(self.levels):
            x = level(x, c)
            kept.append(x)
            x = self.merge[i](x) if i < 2 else x
        x = x + self.middle(x, c)
        for i, level in enumerate(self.up):
            x = self.expand[i - 2](x) if i > 1 else x
            x = level(x + kept.pop(), c)
        shift, scale = (part[:, None, None] for part in self.modulate(self.project(c)))
        x = F.layer_norm(self.final(x), x.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return self.out(x).movedim(-1, 1)


def sines(side: int, dim: int) -> Tensor:
    """A table of positions (1, side, side, dim): sines and cosines of the column, then of the row."""
    speeds = 10000.0 ** (-torch.arange(dim // 4, device="cpu") / (dim / 4))
    turns = torch.arange(side, device="cpu")[:, None] * speeds
    wave = torch.cat([turns.sin(), turns.cos()], 1)
    table = torch.zeros(1, side, side, dim)
    table[..., : 2 * (dim // 4)] = wave[None, None]
    table[..., dim // 2 : dim // 2 + 2 * (dim // 4)] = wave[None, :, None]
    return table


def lamamba_diff_xl() -> LaMambaDiff:
    """The authors' network for latents of 32 x 32 and 1000 classes."""
    return LaMambaDiff((320, 640, 1280, 1280))


def block(theirs: str, ours: str) -> str:
    """Rules for the authors' block."""
    return (
        scan(f"{theirs}.op", f"{ours}.parts.0")
        + f"""
    {theirs}.condition_projection                 -> {ours}.project
    {theirs}.adaLN_modulation.1                   -> {ours}.modulate.proj
    {theirs}.attn_mask                            ->
    {theirs}.attn.relative_position_index         ->
    {theirs}.attn.relative_position_bias_table    -> {ours}.parts.1.bias.table
    {theirs}.attn                                 -> {ours}.parts.1.attn
    {theirs}.mlp                                  -> {ours}.parts.2
    {theirs}.norm                                 -> {ours}.norms.0
    {theirs}.norm_swin                            -> {ours}.norms.1
    {theirs}.norm2                                -> {ours}.norms.2
"""
    )


AUTHORS = (
    block("layers.{s}.blocks.{b}", "levels.{s}.blocks.{b}")
    + block("mid_layer.blocks.{b}", "middle.blocks.{b}")
    + block("layers_up.{s}.blocks.{b}", "up.{s}.blocks.{b}")
    + """
    patch_embed.proj                   -> patches
    patch_embed.norm                   -> norm
    pos_embed                          -> positions
    t_embedder.mlp.0                   -> time.fc1
    t_embedder.mlp.2                   -> time.fc2
    y_embedder.embedding_table         -> labels
    layers.{s}.downsample.reduction    -> merge.{s}.proj
    layers.{s}.downsample.norm         -> merge.{s}.norm
    layers_up.{s}.upsample.expand      -> expand.{s-2}.proj
    layers_up.{s}.upsample.norm        -> expand.{s-2}.norm
    final_up.expand                    -> final.0
    final_up.norm                      -> final.1
    final_condition_projection         -> project
    final_adaLN_modulation.1           -> modulate.proj
    final_linear                       -> out
"""
)
