"""EfficientNets with fewer channels, each layer its own number. Aflalo et al., 2020, arXiv:2002.08258

The knapsack of that paper chose the numbers; the networks are EfficientNet's, narrowed. Widened channels are told for
each block, and the gates' where they differ from EfficientNet's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..blocks import Network
from ..registry import about, family
from ..width import narrow, widths
from .efficientnet import SIZES, TENSORFLOW, TIMM, efficientnet


@family(
    about(
        title="Knapsack Pruning with Inner Distillation",
        arxiv="2002.08258",
        licence="Apache-2.0",
        dilates=True,
    ),
    efficientnet_b1_pruned=dict(
        size="b1",
        native=240,
        dims=(16, 12, 35, 74, 67, 192, 320),
        hidden=(
            (48, 62, 48),
            (70, 61, 51),
            (175, 188, 137, 164),
            (399, 201, 160, 213),
            (637, 806, 798, 891, 990),
            (1152, 1912),
        ),
        squeezed={(5, 0): 27},
    ),
    efficientnet_b2_pruned=dict(
        size="b2",
        native=260,
        dims=(16, 17, 42, 85, 116, 208, 352),
        hidden=(
            (54, 69, 61),
            (86, 72, 98),
            (245, 274, 254, 292),
            (502, 315, 354, 443),
            (719, 1148, 1160, 1182, 1228),
            (1248, 2112),
        ),
    ),
    efficientnet_b3_pruned=dict(
        size="b3",
        native=300,
        dims=(24, 12, 40, 93, 120, 232, 384),
        hidden=(
            (27, 49, 48),
            (83, 90, 85),
            (215, 261, 219, 254, 236),
            (480, 235, 217, 226, 340),
            (802, 1030, 924, 1016, 1130, 1266),
            (1392, 2301),
        ),
        squeezed={(4, 3): 33},
    ),
)
def efficientnet_pruned(
    size: str,
    dims: Sequence[int],
    hidden: Sequence[Sequence[int]],
    squeezed: Mapping[tuple[int, int], int] = MappingProxyType({}),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Channels of the stages, widened ones of the blocks from the second stage on, gates' by (stage, block)."""
    wide, deep, _ = SIZES[size]
    net = efficientnet(wide, deep, TENSORFLOW["part"], num_classes, in_chans, drop_rate, drop_path_rate)
    stages = [stage.blocks for stage in net.backbone.stages]
    sizes = [(blocks[0].project.conv.out_channels, dim) for blocks, dim in zip(stages, dims)]
    for blocks, many in zip(stages[1:], hidden):
        sizes += [(block.dwconv.conv.out_channels, n) for block, n in zip(blocks, many)]
    sizes += [(stages[s][b].gate.reduce.out_channels, n) for (s, b), n in squeezed.items()]
    names = {id(width): name for name, width in widths(net).items()}
    return narrow(net, {names[id(width)]: n for width, n in sizes})


__all__ = ["TIMM", "efficientnet_pruned"]
