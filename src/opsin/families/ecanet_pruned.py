"""ECA-ResNets with fewer channels, each layer its own number. Aflalo et al., 2020, arXiv:2002.08258

The knapsack of that paper chose the numbers; the networks are ECA-Net's, narrowed: channels of the stages, and of every
block behind its first and second convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..blocks import Network
from ..registry import about, family
from ..width import narrow, widths
from .ecanet import ECA_D, TIMM_D, ecanet
from .resnet_d import deep


@family(
    about(
        title="Knapsack Pruning with Inner Distillation",
        arxiv="2002.08258",
        licence="Apache-2.0",
        dilates=True,
    ),
    ecaresnet50d_pruned=dict(
        dims=(19, 171, 818, 2022),
        inner=(
            ((47, 18), (52, 22), (64, 35)),
            ((85, 37), (107, 80), (120, 85), (125, 87)),
            ((198, 126), (255, 232), (256, 233), (253, 235), (256, 225), (256, 239)),
            ((492, 237), (512, 500), (512, 490)),
        ),
    ),
    ecaresnet101d_pruned=dict(
        dims=(26, 142, 278, 2042),
        inner=(
            ((45, 25), (53, 20), (60, 27)),
            ((81, 24), (93, 49), (102, 54), (122, 78)),
            (
                *((101, 25), (239, 160), (234, 156), (250, 176), (253, 191), (251, 175), (230, 128), (244, 154)),
                *((244, 159), (238, 97), (244, 149), (253, 181), (245, 119), (255, 216), (256, 201), (253, 149)),
                *((254, 141), (256, 190), (256, 217), (255, 156), (256, 155), (256, 232), (256, 214)),
            ),
            ((499, 289), (512, 512), (512, 502)),
        ),
    ),
)
def ecanet_pruned(
    dims: Sequence[int],
    inner: Sequence[Sequence[tuple[int, int]]],
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    net = ecanet([len(blocks) for blocks in inner], block=ECA_D, stem=deep, **more)
    sizes: list[tuple[int, int]] = []
    for stage, dim, blocks in zip(net.backbone.stages, dims, inner):
        sizes.append((stage.blocks[0].conv3.conv.out_channels, dim))
        for block, (a, b) in zip(stage.blocks, blocks):
            sizes += [(block.conv1.conv.out_channels, a), (block.conv2.conv.out_channels, b)]
    names = {id(width): name for name, width in widths(net).items()}
    return narrow(net, {names[id(width)]: many for width, many in sizes})


__all__ = ["TIMM_D", "ecanet_pruned"]
