"""NL-ResNet: non-local blocks among a ResNet's. Wang et al., 2017, arXiv:1711.07971

Five of them, in the second and third stage behind every second block (in the deep one every seventh), each comparing
all places with those that a 2x2 pooling leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..blocks import Blocks, Network
from ..mixers.non_local import NonLocal
from ..registry import about, family
from .resnet import DEEP, assemble, bottleneck


@family(
    about(title="Non-local Neural Networks", arxiv="1711.07971", licence="CC-BY-NC-4.0", dilates=True),
    nl_resnet50=dict(depths=(3, 4, 6, 3), places=((1, 3), (1, 3, 5))),
    nl_resnet101=dict(depths=(3, 4, 23, 3), places=((1, 3), (6, 13, 20))),
)
def nl_resnet(
    depths: Sequence[int],
    places: Sequence[Sequence[int]],
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`places` are the blocks of the second and third stage behind which a non-local block stands."""
    more: dict[str, Any] = dict(
        num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    net = assemble(depths, DEEP, bottleneck, **more)
    for stage, width, behind in zip(net.backbone.stages[1:3], net.backbone.widths[2:4], places):
        blocks = list(stage.blocks)
        for i in reversed(behind):
            blocks.insert(i + 1, NonLocal(width, pool=nn.MaxPool2d(2)))
        stage.blocks = Blocks(*blocks)
    return net
