"""Swin Transformer V2: Swin for more layers and more pixels. Liu et al., 2021, arXiv:2111.09883

Norms stand behind the branches, attention compares directions alone, and a small network makes the relative bias from
log-spaced offsets, so that weights move to other windows: `window12to16_192to256` was trained on windows of 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid
from ..blocks.postnorm import PostNorm
from ..blocks.stage import LastStage
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..mixers.cosine import CosineAttention, DistanceBias
from ..mixers.window import WindowAttention
from ..registry import about, family
from ..width import Concat, each
from .swin import TORCHVISION as SWIN
from .swin import folded

TINY: dict[str, Any] = dict(depths=(2, 2, 6, 2), dim=96, heads=(3, 6, 12, 24))
SMALL: dict[str, Any] = dict(depths=(2, 2, 18, 2), dim=96, heads=(3, 6, 12, 24))
BASE: dict[str, Any] = dict(depths=(2, 2, 18, 2), dim=128, heads=(4, 8, 16, 32))
LARGE: dict[str, Any] = dict(depths=(2, 2, 18, 2), dim=192, heads=(6, 12, 24, 48))
AT12: dict[str, Any] = dict(windows=(12, 12, 12, 6), native=192)
AT16: dict[str, Any] = dict(windows=(16, 16, 16, 8))
AT24: dict[str, Any] = dict(windows=(24, 24, 24, 12), native=384)
FROM12: dict[str, Any] = dict(trained=(12, 12, 12, 6))


class MergedPatches(nn.Module):
    """norm(proj(2x2 neighbours folded into channels)): (B, H, W, C) to half the height and width"""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.proj, self.norm = nn.Linear(Concat(cin, cin, cin, cin), cout, bias=False), LayerNorm(cout, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(folded(x)))


@family(
    about(
        title="Swin Transformer V2: Scaling Up Capacity and Resolution",
        arxiv="2111.09883",
        licence="MIT",
        native=256,
        multiple=4,
    ),
    swinv2_tiny_window8_256=TINY,
    swinv2_tiny_window16_256={**TINY, **AT16},
    swinv2_small_window8_256=SMALL,
    swinv2_small_window16_256={**SMALL, **AT16},
    swinv2_base_window8_256=BASE,
    swinv2_base_window16_256={**BASE, **AT16},
    swinv2_base_window12_192={**BASE, **AT12},
    swinv2_base_window12to16_192to256={**BASE, **AT16, **FROM12},
    swinv2_base_window12to24_192to384={**BASE, **AT24, **FROM12},
    swinv2_large_window12_192={**LARGE, **AT12},
    swinv2_large_window12to16_192to256={**LARGE, **AT16, **FROM12},
    swinv2_large_window12to24_192to384={**LARGE, **AT24, **FROM12},
)
def swin_v2(
    depths: Sequence[int],
    dim: int,
    heads: Sequence[int],
    windows: Sequence[int] = (8, 8, 8, 8),
    trained: Sequence[int] | None = None,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`windows` are those of the stages, `trained` those that the weights come from where they differ."""
    dims, drop = each(*[dim * 2**i for i in range(4)]), ramp(drop_path_rate, sum(depths))

    def block(i: int, j: int) -> nn.Module:
        bias = partial(DistanceBias, trained=(trained or windows)[i])
        shift = windows[i] // 2 if j % 2 else 0
        return PostNorm(
            dims[i], WindowAttention(dims[i], heads[i], windows[i], shift, CosineAttention, bias), drop=next(drop)
        )

    stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 4, 4), LayerNorm(dims[0], dim=1, eps=1e-5))
    stages = [
        LastStage([block(i, j) for j in range(depth)], MergedPatches(dims[i - 1], dims[i]) if i else None)
        for i, depth in enumerate(depths)
    ]
    head = Classifier(dims[-1], num_classes, before=LayerNorm(dims[-1], dim=1, eps=1e-5), drop=drop_rate)
    net = Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, linear=trunc02)
    return net


TIMM = """
    patch_embed.proj                            -> backbone.stem.0
    patch_embed.norm                            -> backbone.stem.1
    layers.{s}.downsample.norm                  -> backbone.stages.{s}.down.norm
    layers.{s}.downsample.reduction             -> backbone.stages.{s}.down.proj
    layers.{s}.blocks.{b}.attn.cpb_mlp.0        -> backbone.stages.{s}.blocks.{b}.mixer.bias.fc1
    layers.{s}.blocks.{b}.attn.cpb_mlp.2        -> backbone.stages.{s}.blocks.{b}.mixer.bias.fc2
    layers.{s}.blocks.{b}.attn.logit_scale      -> backbone.stages.{s}.blocks.{b}.mixer.attn.log_tau
    layers.{s}.blocks.{b}.attn.q_bias           -> backbone.stages.{s}.blocks.{b}.mixer.attn.qkv.q_bias
    layers.{s}.blocks.{b}.attn.v_bias           -> backbone.stages.{s}.blocks.{b}.mixer.attn.qkv.v_bias
    layers.{s}.blocks.{b}.attn                  -> backbone.stages.{s}.blocks.{b}.mixer.attn
    layers.{s}.blocks.{b}                       -> backbone.stages.{s}.blocks.{b}
    norm                                        -> head.before
    head.fc                                     -> head.fc
"""


def stage(s: int) -> str:
    """What torchvision calls a stage's mixers; the bias of its keys is zero."""
    theirs, ours = f"features.{2 * s + 1}.{{b}}.attn", f"backbone.stages.{s}.blocks.{{b}}.mixer"
    return f"""
    {theirs}.relative_coords_table  ->
    {theirs}.logit_scale   -> {ours}.attn.log_tau
    {theirs}.cpb_mlp.0     -> {ours}.bias.fc1
    {theirs}.cpb_mlp.2     -> {ours}.bias.fc2
    {theirs}.qkv.bias      -> {ours}.attn.qkv.q_bias | 0 | {ours}.attn.qkv.v_bias
"""


TORCHVISION = "".join(map(stage, range(4))) + SWIN
