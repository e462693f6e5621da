"""SPANet: a MetaFormer whose mixer balances low and high frequencies. Yun et al., 2023, arXiv:2308.11568

Depthwise rows and columns, modulated by bands of frequencies; a gain on the shortcut of the last two stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from ..blocks import Classifier, Network, Pyramid
from ..blocks.stage import LastBlocks
from ..channels.mlp import Mlp
from ..layers import ImageNorm, ramp
from ..layers.init import initialise, trunc02
from ..layers.position import grid
from ..mixers.spectral import SpectralModulation
from ..registry import about, family
from ..width import each
from .metaformer import MetaFormerBlock, one

norm = partial(ImageNorm, eps=1e-5)
SMALL: dict[str, Any] = dict(dims=(64, 128, 320, 512))
LARGE: dict[str, Any] = dict(dims=(96, 192, 384, 768))


def sides(img_size: int | tuple[int, int]) -> list[tuple[int, int]]:
    """Rows and columns of each stage's map."""
    rows, columns = grid(img_size, 32)
    return [(rows * n, columns * n) for n in (8, 4, 2, 1)]


@family(
    about(
        title="SPANet: Frequency-balancing Token Mixer using Spectral Pooling Aggregation Modulation",
        arxiv="2308.11568",
        licence="MIT",
    ),
    spanet_small=dict(depths=(4, 4, 12, 4), **SMALL),
    spanet_medium=dict(depths=(6, 6, 18, 6), **SMALL),
    spanet_mediumx=dict(depths=(8, 8, 24, 8), **SMALL),
    spanet_base=dict(depths=(6, 6, 18, 6), **LARGE),
    spanet_basex=dict(depths=(8, 8, 24, 8), **LARGE),
)
def spanet(
    depths: Sequence[int],
    dims: Sequence[int],
    radii: Sequence[float] = (2, 2, 1, 1),
    ratios: Sequence[float] = (4, 4, 4, 4),
    img_size: int | tuple[int, int] = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Filters are made for images of `img_size`; for others they are padded or cut, as published detectors do it."""
    dims, drop, grids = each(*dims), ramp(drop_path_rate, sum(depths)), sides(img_size)
    mixers = [partial(SpectralModulation, radius=radii[i], grid=grids[i]) for i in range(4)]
    mlps, keeps = [partial(Mlp, ratio=ratio) for ratio in ratios], (nn.Identity, nn.Identity, one, one)
    stages = [
        LastBlocks(
            [
                MetaFormerBlock(dims[i], mixers[i], mlps[i], norm, nn.Identity, keeps[i], next(drop))
                for _ in range(depth)
            ],
            nn.Conv2d(dims[i - 1], dims[i], 3, 2, 1) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    stem = nn.Conv2d(in_chans, dims[0], 7, 4, 2)
    head = Classifier(dims[-1], num_classes, before=nn.GroupNorm(1, dims[-1]), drop=drop_rate)
    net = Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, linear=trunc02)
    return net


MIXER = """
    {at}.sps                   ->
    {at}.conv.0                -> {to}row
    {at}.conv.1                -> {to}column
    {at}.pws                   -> {to}points
    {at}.proj_in               -> {to}proj_in
    {at}.proj_out              -> {to}proj_out
"""


def stage(s: int) -> str:
    """Rules for a stage, which is entry 2s of the published list, behind its change of resolution."""
    theirs, ours = f"network.{2 * s}.{{b}}", f"backbone.stages.{s}.blocks.{{b}}."
    mixer = MIXER.replace("{at}", f"{theirs}.token_mixer").replace("{to}", f"{ours}mixer.")
    return f"""{mixer}
    network.{2 * s - 1}.proj   -> backbone.stages.{s}.down
    {theirs}.norm{{i}}         -> {ours}norm{{i}}
    {theirs}.mlp               -> {ours}mlp
    {theirs}.res_scale{{i}}.scale -> {ours}keep{{i}}.gamma"""


BODY = "patch_embed.proj -> backbone.stem" + "".join(map(stage, range(4)))
AUTHORS = (
    BODY
    + """
    norm                       -> head.before
    head                       -> head.fc
"""
)
