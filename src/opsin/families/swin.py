"""Swin Transformer: attention in windows that shift from block to block. Liu et al., 2021, arXiv:2103.14030

A pyramid for transformers at linear cost. The `s3` forms are AutoFormerV2's searched ones (Chen et al., 2021,
arXiv:2111.14725): other windows and depths.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..blocks import Classifier, Network, PreNorm, Pyramid
from ..blocks.stage import LastStage
from ..channels.mlp import Mlp
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..mixers.window import WindowAttention
from ..registry import about, family
from ..width import Concat, each

S3 = dict(arxiv="2111.14725", title="Searching the Search Space of Vision Transformer")


class PatchMerging(nn.Module):
    """proj(norm(2x2 neighbours folded into channels)): (B, H, W, C) to half the height and width"""

    norm: nn.Module

    def __init__(self, cin: int, cout: int):
        super().__init__()
        four = Concat(cin, cin, cin, cin)
        self.norm, self.proj = LayerNorm(four, eps=1e-5), nn.Linear(four, cout, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.norm(folded(x)))


def folded(x: Tensor) -> Tensor:
    """2x2 neighbours as channels: (B, H, W, C) to (B, H/2, W/2, 4C), odd sides padded below and right with zeros."""
    _, h, w, _ = x.shape
    x = nn.functional.pad(x, (0, 0, 0, w % 2, 0, h % 2)) if h % 2 or w % 2 else x
    return x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)


@family(
    about(
        title="Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
        arxiv="2103.14030",
        licence="MIT",
        multiple=4,
    ),
    swin_tiny_patch4_window7_224=dict(depths=(2, 2, 6, 2), dim=96, heads=(3, 6, 12, 24)),
    swin_small_patch4_window7_224=dict(depths=(2, 2, 18, 2), dim=96, heads=(3, 6, 12, 24)),
    swin_base_patch4_window7_224=dict(depths=(2, 2, 18, 2), dim=128, heads=(4, 8, 16, 32)),
    swin_large_patch4_window7_224=dict(depths=(2, 2, 18, 2), dim=192, heads=(6, 12, 24, 48)),
    swin_base_patch4_window12_384=dict(
        depths=(2, 2, 18, 2), dim=128, heads=(4, 8, 16, 32), windows=(12, 12, 12, 12), native=384
    ),
    swin_large_patch4_window12_384=dict(
        depths=(2, 2, 18, 2), dim=192, heads=(6, 12, 24, 48), windows=(12, 12, 12, 12), native=384
    ),
    swin_s3_tiny_224=dict(depths=(2, 2, 6, 2), dim=96, heads=(3, 6, 12, 24), windows=(7, 7, 14, 7), **S3),
    swin_s3_small_224=dict(depths=(2, 2, 18, 2), dim=96, heads=(3, 6, 12, 24), windows=(14, 14, 14, 7), **S3),
    swin_s3_base_224=dict(depths=(2, 2, 30, 2), dim=96, heads=(3, 6, 12, 24), windows=(7, 7, 14, 7), **S3),
)
def swin(
    depths: Sequence[int],
    dim: int,
    heads: Sequence[int],
    windows: Sequence[int] = (7, 7, 7, 7),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dims, drop = each(*[dim * 2**i for i in range(4)]), ramp(drop_path_rate, sum(depths))

    def block(i: int, j: int) -> nn.Module:
        mixer = WindowAttention(dims[i], heads[i], windows[i], shift=windows[i] // 2 if j % 2 else 0)
        return PreNorm(dims[i], mixer, Mlp(dims[i]), next(drop), eps=1e-5)

    stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 4, 4), LayerNorm(dims[0], dim=1, eps=1e-5))
    stages = [
        LastStage([block(i, j) for j in range(depth)], PatchMerging(dims[i - 1], dims[i]) if i else None)
        for i, depth in enumerate(depths)
    ]
    head = Classifier(dims[-1], num_classes, before=LayerNorm(dims[-1], dim=1, eps=1e-5), drop=drop_rate)
    net = Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, linear=trunc02)
    return net


TIMM = """
    patch_embed.proj                                       -> backbone.stem.0
    patch_embed.norm                                       -> backbone.stem.1
    layers.{s}.downsample.norm                             -> backbone.stages.{s}.down.norm
    layers.{s}.downsample.reduction                        -> backbone.stages.{s}.down.proj
    layers.{s}.blocks.{b}.attn.relative_position_bias_table -> backbone.stages.{s}.blocks.{b}.mixer.bias.table
    layers.{s}.blocks.{b}.attn.relative_position_index     ->
    layers.{s}.blocks.{b}.attn_mask                        ->
    layers.{s}.blocks.{b}.attn                             -> backbone.stages.{s}.blocks.{b}.mixer.attn
    layers.{s}.blocks.{b}                                  -> backbone.stages.{s}.blocks.{b}
    norm                                                   -> head.before
    head.fc                                                -> head.fc
"""


def torchvision_stage(s: int) -> str:
    """Where torchvision keeps a stage: its blocks in `features.{2s+1}`, the merging before it in `features.{2s}`."""
    theirs, ours = f"features.{2 * s + 1}", f"backbone.stages.{s}.blocks"
    return f"""
    features.{2 * s}.norm        -> backbone.stages.{s}.down.norm
    features.{2 * s}.reduction   -> backbone.stages.{s}.down.proj
    {theirs}.{{b}}.attn.relative_position_bias_table -> {ours}.{{b}}.mixer.bias.table
    {theirs}.{{b}}.attn.relative_position_index ->
    {theirs}.{{b}}.attn   -> {ours}.{{b}}.mixer.attn
    {theirs}.{{b}}.mlp.0  -> {ours}.{{b}}.mlp.fc1
    {theirs}.{{b}}.mlp.3  -> {ours}.{{b}}.mlp.fc2
    {theirs}.{{b}}        -> {ours}.{{b}}
"""


TORCHVISION = """
    features.0.0          -> backbone.stem.0
    features.0.2          -> backbone.stem.1
    norm                  -> head.before
    head                  -> head.fc
""" + "".join(map(torchvision_stage, range(4)))
