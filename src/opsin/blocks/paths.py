"""ResNeXt's block in its other two forms, which give the same answer. Xie et al., 2016, figure 3, arXiv:1611.05431

A grouped 3x3 is as many paths beside each other: they can be kept apart to the end and summed, or concatenated before
one 1x1. A path is the block narrowed to one of its groups.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..width import narrow, widths
from .residual import Bottleneck


def paths(block: Bottleneck) -> nn.ModuleList:
    """A block of one group for each group of `block`, with its weights."""
    groups = block.conv2.conv.groups
    [name] = [name for name, width in widths(block).items() if width is groups]
    return nn.ModuleList(narrow(block, {name: [group]}) for group in range(int(groups)))


class EarlyConcat(nn.Module):
    """act(conv3([conv2_g(conv1_g(x)) for every group g]) + shortcut(x))"""

    def __init__(self, block: Bottleneck):
        super().__init__()
        self.paths: Any = paths(block)
        self.conv3, self.shortcut, self.act = block.conv3, block.shortcut, block.act

    def forward(self, x: Tensor) -> Tensor:
        made = torch.cat([path.conv2(path.conv1(x)) for path in self.paths], 1)
        return self.act(self.conv3(made) + self.shortcut(x))


class SummedPaths(nn.Module):
    """act(norm(sum of conv3_g(conv2_g(conv1_g(x))) over groups g) + shortcut(x))"""

    def __init__(self, block: Bottleneck):
        super().__init__()
        self.paths: Any = paths(block)
        self.norm, self.shortcut, self.act = block.conv3.norm, block.shortcut, block.act

    def forward(self, x: Tensor) -> Tensor:
        made = sum(path.conv3.conv(path.conv2(path.conv1(x))) for path in self.paths)
        return self.act(self.norm(made) + self.shortcut(x))
