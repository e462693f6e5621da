"""Swin-Mixer: Swin's pyramid and shifted windows with an MLP over places for attention. Liu et al., arXiv:2103.14030

`c24` is 24 channels a head: all channels of a head share one matrix over the places of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..blocks import Classifier, Network, PreNorm, Pyramid
from ..blocks.stage import LastStage
from ..channels.mlp import Mlp
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..mixers.window_mlp import WindowMlp
from ..registry import about, family
from ..width import Groups, Width, each
from .swin import PatchMerging

TINY: dict[str, Any] = dict(depths=(2, 2, 6, 2), dim=96, native=256)


@family(
    about(
        title="Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
        arxiv="2103.14030",
        licence="MIT",
        multiple=4,
    ),
    swin_mixer_tiny_c24_patch4_window8_256=dict(heads=(4, 8, 16, 32), **TINY),
    swin_mixer_tiny_c12_patch4_window8_256=dict(heads=(8, 16, 32, 64), **TINY),
    swin_mixer_tiny_c6_patch4_window8_256=dict(heads=(16, 32, 64, 128), **TINY),
    swin_mixer_base_patch4_window7_224=dict(depths=(2, 2, 18, 2), dim=128, heads=(4, 8, 16, 32), window=7),
)
def swin_mlp(
    depths: Sequence[int],
    dim: int,
    heads: Sequence[int],
    window: int = 8,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    heads = each(*heads, name="heads")
    dims = [Groups(h, Width(dim * 2**i // h, f"head{i + 1}")) for i, h in enumerate(heads)]
    drop = ramp(drop_path_rate, sum(depths))

    def block(i: int, j: int) -> nn.Module:
        mixer = WindowMlp(heads[i], window, shift=window // 2 if j % 2 else 0)
        return PreNorm(dims[i], mixer, Mlp(dims[i]), next(drop), eps=1e-5)

    stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 4, 4), LayerNorm(dims[0], dim=1, eps=1e-5))
    stages = [
        LastStage([block(i, j) for j in range(depth)], PatchMerging(dims[i - 1], dims[i]) if i else None)
        for i, depth in enumerate(depths)
    ]
    head = Classifier(dims[-1], num_classes, before=LayerNorm(dims[-1], dim=1, eps=1e-5), drop=drop_rate)
    net = Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, linear=trunc02)
    initialise(net.backbone.stages, conv=trunc02)
    return net


AUTHORS = """
    patch_embed.proj                            -> backbone.stem.0
    patch_embed.norm                            -> backbone.stem.1
    layers.{s}.downsample.norm                  -> backbone.stages.{s+1}.down.norm
    layers.{s}.downsample.reduction             -> backbone.stages.{s+1}.down.proj
    layers.{s}.blocks.{b}.spatial_mlp           -> backbone.stages.{s}.blocks.{b}.mixer.spatial
    layers.{s}.blocks.{b}                       -> backbone.stages.{s}.blocks.{b}
    norm                                        -> head.before
    head                                        -> head.fc
"""
