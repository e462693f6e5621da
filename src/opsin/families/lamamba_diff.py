"""LaMamba-Diff: a diffusion U-Net of snake scans and shifted windows. Fu et al., 2024, arXiv:2408.02615

Takes noisy latents (B, 4, R, R), steps (B) and labels (B), row `classes` standing for none; predicts noise and its
variance (B, 8, R, R).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ..blocks import Features, Network
from ..blocks.dense import NoiseHead
from ..blocks.stage import Stage
from ..channels.mlp import Mlp
from ..layers import LayerNorm
from ..layers.norm import Flat
from ..layers.position import resampled
from ..layers.scan_order import windings
from ..layers.timestep import Labels, Modulate, Timestep, steps
from ..mixers.cross_scan import GatedCrossScan, dwconv
from ..mixers.window import WindowAttention
from ..registry import about, family
from ..width import Width, each
from .mhs_vm import PatchExpanding
from .swin import PatchMerging
from .vmamba import scan

norm = partial(LayerNorm, eps=1e-5)
SnakeScan = partial(GatedCrossScan, states=1, expand=2.0, conv=dwconv, order=windings)
Mixer = Callable[[int], nn.Module]


class ConditionedBlock(nn.Module):
    """x <- x + gate f(norm(x) (1 + scale) + shift) for f = scan, windowed attention, mlp, over maps (B, H, W, C)

    Gates, scales and shifts are read off the condition c (B, seen), or off a projection of it to C.
    """

    def __init__(self, dim: int, seen: int, mixer: Mixer, heads: int, window: int, shift: int, project: bool):
        super().__init__()
        read = Width(dim, "read") if project else seen
        self.project = nn.Linear(seen, read) if project else nn.Identity()
        self.modulate = Modulate(read, dim, 9)
        self.norms = nn.ModuleList(norm(dim) for _ in range(3))
        self.parts = nn.ModuleList([mixer(dim), WindowAttention(dim, heads, window, shift), Mlp(dim)])

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        told = [t[:, None, None] for t in self.modulate(self.project(c))]
        for i, (part, norm) in enumerate(zip(self.parts, self.norms)):
            shift, scale, gate = told[3 * i : 3 * i + 3]
            x = x + gate * part(norm(x) * (1 + scale) + shift)
        return x


class ConditionedStage(Stage):
    """A change of resolution, then blocks that are all told the same"""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:  # type: ignore[override]
        return self.told(self.down(x), c)

    def told(self, x: Tensor, c: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.blocks.run(block, x, c)
        return x


class SquarePositions(nn.Module):
    """x + table, over maps (B, H, W, C): sines to begin with, resampled where the map is no square of `side`"""

    axes = {"table": (None, None, None, "dim")}
    no_decay = ("table",)

    def __init__(self, side: int, dim: int):
        super().__init__()
        self.side, self.dim, self.table = side, dim, nn.Parameter(sines(side, dim))

    def forward(self, x: Tensor) -> Tensor:
        here, own = (x.shape[1], x.shape[2]), (self.side, self.side)
        table = self.table.flatten(1, 2)
        return x + (table if here == own else resampled(table, 0, own, here)).unflatten(1, here)


class LaMamba(nn.Module):
    """Levels down to a quarter of the resolution, a middle, and levels up that are given what went down

    Told steps t (B), zero if none, and labels (B), the row behind the classes' if none. Taps: every level on the way
    down, and the end.
    """

    def __init__(
        self, dims: Sequence[int], stages: Sequence[ConditionedStage], seen: int, side: int, classes: int, in_chans: int
    ):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(in_chans, dims[0], 1), norm(dims[0])
        self.positions, self.time = SquarePositions(side, dims[0]), Timestep(seen, Width(seen, "hidden"), 256)
        self.labels, self.stages = Labels(classes, seen), nn.ModuleList(stages)
        out, read = Width(dims[0], "out"), Width(dims[0], "read")
        self.final = nn.Sequential(nn.Linear(dims[0], out, bias=False), norm(out))
        self.project, self.modulate = nn.Linear(seen, read), Modulate(read, out, 2)
        self.flat = Flat(out)
        self.widths, self.strides = [*dims, out], [1, 2, 4, 4, 1]

    def forward(
        self, x: Tensor, taps: Sequence[int] = (-1,), t: Tensor | None = None, labels: Tensor | None = None
    ) -> Features:
        c = self.time(steps(x, t)) + self.labels(x, labels)
        x = self.positions(self.norm(self.patches(x).movedim(1, -1)))
        made: list[Tensor] = []
        for stage in self.stages[:4]:
            x = stage(x, c)
            made.append(x)
        x = x + self.stages[4](x, c)
        for stage, given in zip(cast(list[ConditionedStage], self.stages[5:]), made[::-1]):
            x = stage.told(stage.down(x) + given, c)
        shift, scale = (part[:, None, None] for part in self.modulate(self.project(c)))
        maps = [m.movedim(-1, 1) for m in (*made, self.flat(self.final(x)) * (1 + scale) + shift)]
        return Features([maps[tap] for tap in taps], [self.strides[tap] for tap in taps])


@family(
    about(
        title="LaMamba-Diff: Linear-Time High-Fidelity Diffusion Models Based on Local Attention and Mamba",
        arxiv="2408.02615",
        licence="MIT",
        native=32,
        multiple=4,
        task="denoise",
    ),
    lamamba_diff_xl=dict(dim=320, in_chans=4),
)
def lamamba_diff(
    dim: int,
    widen: Sequence[int] = (1, 2, 4, 4),
    depths: Sequence[int] = (2, 2, 2, 2),
    heads: Sequence[int] = (8, 8, 8, 8),
    middle: int = 2,
    wider: int = 1,
    window: int = 8,
    mixer: Mixer = SnakeScan,
    img_size: int = 32,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
) -> Network:
    """Noise and its variance (B, 2 in_chans, H, W) in latents of `img_size` a side, for `num_classes` labels.

    The levels on the way up have `wider` blocks more. The last two of the four widths are one.
    """
    first, second, third = each(*(dim * by for by in widen[:3]))
    dims, seen = (first, second, third, third), Width(third, "told")
    sides = [img_size, img_size // 2, img_size // 4, img_size // 4]

    def stage(i: int, depth: int, up: bool = False, turn: nn.Module | None = None) -> ConditionedStage:
        near = min(window, sides[i])
        shifts = [near // 2 if j % 2 and sides[i] > window else 0 for j in range(depth)]
        told = up or dims[i] != third
        return ConditionedStage([ConditionedBlock(dims[i], seen, mixer, heads[i], near, s, told) for s in shifts], turn)

    merges = [None, PatchMerging(first, second), PatchMerging(second, third), None]
    turns = [None, None, PatchExpanding(third, second), PatchExpanding(second, first)]
    stages = [stage(i, depths[i], turn=merges[i]) for i in range(4)]
    stages += [stage(3, middle), *(stage(i, depths[i] + wider, True, turns[3 - i]) for i in (3, 2, 1, 0))]
    backbone = LaMamba(dims, stages, seen, img_size, num_classes, in_chans)
    return Network(backbone, NoiseHead(backbone.widths[-1], 2 * in_chans, drop=drop_rate))


def sines(side: int, dim: int) -> Tensor:
    """A table of positions (1, side, side, dim): sines and cosines of the column, then of the row."""
    speeds = 10000.0 ** (-torch.arange(dim // 4, device="cpu") / (dim / 4))
    turns = torch.arange(side, device="cpu")[:, None] * speeds
    wave = torch.cat([turns.sin(), turns.cos()], 1)
    table = torch.zeros(1, side, side, dim)
    table[..., : 2 * (dim // 4)] = wave[None, None]
    table[..., dim // 2 : dim // 2 + 2 * (dim // 4)] = wave[None, :, None]
    return table


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
    block("layers.{s}.blocks.{b}", "backbone.stages.{s}.blocks.{b}")
    + block("mid_layer.blocks.{b}", "backbone.stages.4.blocks.{b}")
    + block("layers_up.{s}.blocks.{b}", "backbone.stages.{s+5}.blocks.{b}")
    + """
    patch_embed.proj                   -> backbone.patches
    patch_embed.norm                   -> backbone.norm
    pos_embed                          -> backbone.positions.table
    t_embedder.mlp.0                   -> backbone.time.fc1
    t_embedder.mlp.2                   -> backbone.time.fc2
    y_embedder.embedding_table         -> backbone.labels
    layers.{s}.downsample.reduction    -> backbone.stages.{s+1}.down.proj
    layers.{s}.downsample.norm         -> backbone.stages.{s+1}.down.norm
    layers_up.{s}.upsample.expand      -> backbone.stages.{s+5}.down.proj
    layers_up.{s}.upsample.norm        -> backbone.stages.{s+5}.down.norm
    final_up.expand                    -> backbone.final.0
    final_up.norm                      -> backbone.final.1
    final_condition_projection         -> backbone.project
    final_adaLN_modulation.1           -> backbone.modulate.proj
    final_linear                       -> head.fc
"""
)
