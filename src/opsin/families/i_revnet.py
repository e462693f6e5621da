"""i-RevNet: a classifier that loses nothing of the image before it pools. Jacobsen et al., 2018, arXiv:1802.07088

Pixels move into channels instead of being left out, and what a block adds to one half it reads from the other. The
bijective form has as many numbers in every map as in the image; the injective one starts from the image and zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Network
from ..blocks.coupling import Coupling, Couplings, Squeeze, Widened
from ..errors import OpsinError
from ..layers import DropPath, ramp
from ..registry import about, family
from ..width import Width


class Entry(nn.Module):
    """relu(norm(x))"""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(x))


class Bottleneck(nn.Module):
    """conv3(relu(norm3(dropout(conv2(relu(norm2(conv1(entry(x)))))))), all convolutions 3x3"""

    def __init__(self, entry: nn.Module, cin: int, cout: int, stride: int, hidden: int, dropout: float, drop: float):
        super().__init__()
        inner, narrow = Width(hidden, "hidden"), Width(hidden, "hidden")
        self.entry = entry
        self.conv1, self.norm2 = conv(cin, inner, stride), nn.BatchNorm2d(inner)
        self.conv2, self.norm3 = conv(inner, narrow), nn.BatchNorm2d(narrow)
        self.conv3 = conv(narrow, cout)
        self.dropout, self.drop = nn.Dropout(dropout), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.norm2(self.conv1(self.entry(x)))))
        return self.drop(self.conv3(F.relu(self.norm3(self.dropout(y)))))


def conv(cin: int, cout: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 3, stride, 1, bias=False)


def coupling(cin: int, dim: int, stride: int, first: bool, share: int, dropout: float, drop: float) -> Coupling:
    """From `cin` channels in both halves together to `dim` in each."""
    seen = dim if stride == 1 else cin - cin // 2
    entry = nn.Identity() if first else Entry(seen)
    branch = Bottleneck(entry, seen, dim, stride, dim // share, dropout, drop)
    made, lacking = cin * stride**2, 2 * dim - cin * stride**2
    if (stride > 1 and (lacking or cin % 2)) or lacking < 0 or not dim // share:
        raise OpsinError(
            f"{cin} channels at a stride of {stride} make {made}, which two halves of {dim} (a {share}th inside) "
            f"cannot carry: dims={made // 2} keeps them as they are; at a stride of 1 wider ones are filled up"
        )
    return Widened(branch, cin, dim) if lacking else Coupling(branch, stride)


@family(
    about(title="i-RevNet: Deep Invertible Networks", arxiv="1802.07088", licence="MIT", multiple=32),
    i_revnet_b=dict(depths=(6, 16, 72, 6), strides=(2, 2, 2, 2)),
    i_revnet_cifar=dict(
        depths=(18, 18, 18),
        strides=(1, 2, 2),
        dims=(16, 64, 256),
        squeeze=1,
        dropout=0.1,
        num_classes=10,
        native=32,
        multiple=4,
    ),
)
def i_revnet(
    depths: Sequence[int],
    strides: Sequence[int],
    dims: Sequence[int] | None = None,
    squeeze: int = 2,
    share: int = 4,
    dropout: float = 0.0,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`dims` are the channels of one half in each stage; without them as many as the pixels fill: the bijective form.

    The image's blocks of `squeeze` pixels become channels first; a `share`-th of the channels is inside of blocks.
    """
    sides = [squeeze * s for s in accumulate(strides, lambda a, b: a * b)]
    dims = dims or [in_chans * side**2 // 2 for side in sides]
    drop, cin = ramp(drop_path_rate, sum(depths)), in_chans * squeeze**2
    blocks: list[Coupling] = []
    for dim, depth, stride in zip(dims, depths, strides):
        for s in [stride, *[1] * (depth - 1)]:
            blocks.append(coupling(cin, dim, s, not blocks, share, dropout, next(drop)))
            cin = 2 * dim
    ends = [*accumulate(depths)]
    backbone = Couplings(Squeeze(squeeze), blocks, ends, [2 * dim for dim in dims], sides)
    before = nn.Sequential(nn.BatchNorm2d(cin, momentum=0.9), nn.ReLU())
    return Network(backbone, Classifier(cin, num_classes, before=before, drop=drop_rate))


AUTHORS = """
    stack.0.bottleneck_block.0    -> backbone.blocks.0.branch.conv1
    stack.0.bottleneck_block.1    -> backbone.blocks.0.branch.norm2
    stack.0.bottleneck_block.3    -> backbone.blocks.0.branch.conv2
    stack.0.bottleneck_block.5    -> backbone.blocks.0.branch.norm3
    stack.0.bottleneck_block.7    -> backbone.blocks.0.branch.conv3
    stack.{b}.bottleneck_block.0  -> backbone.blocks.{b}.branch.entry.norm
    stack.{b}.bottleneck_block.2  -> backbone.blocks.{b}.branch.conv1
    stack.{b}.bottleneck_block.3  -> backbone.blocks.{b}.branch.norm2
    stack.{b}.bottleneck_block.5  -> backbone.blocks.{b}.branch.conv2
    stack.{b}.bottleneck_block.7  -> backbone.blocks.{b}.branch.norm3
    stack.{b}.bottleneck_block.9  -> backbone.blocks.{b}.branch.conv3
    bn1                           -> head.before.0
    linear                        -> head.fc
"""
