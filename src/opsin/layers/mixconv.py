"""Several kernel sizes in one convolution. Tan & Le, 2019, arXiv:1907.09595"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from ..width import Concat, Width
from .conv import SameConv2d


class MixConv2d(nn.Module):
    """[conv_1(x_1), ..., conv_g(x_g)]: channels are split, each share has its own kernel; no bias

    `cins` and `couts` are the shares' channels; depthwise where they are the same objects.
    """

    def __init__(
        self,
        cins: Sequence[int],
        couts: Sequence[int],
        kernels: Sequence[int],
        stride: int = 1,
        conv: type[nn.Conv2d] = nn.Conv2d,
    ):
        super().__init__()
        self.sizes = list(cins)
        self.convs = nn.ModuleList(
            conv(a, b, k, stride, 0 if conv is SameConv2d else k // 2, groups=a if a is b else 1, bias=False)
            for a, b, k in zip(cins, couts, kernels, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        shares = x.split([int(size) for size in self.sizes], 1)
        return torch.cat([conv(share) for conv, share in zip(self.convs, shares)], 1)


def divide(size: int, *ways: int, name: str = "share") -> list[list[Width]]:
    """For each n of `ways` n widths that lay out the same `size` channels end to end.

    Shares are equal, and the first takes what is left over. Divisions that cut at different places share the pieces
    between all cuts, so that layers with other divisions still agree on every channel.
    """
    ends = [list(accumulate([size - (n - 1) * (size // n), *[size // n] * (n - 1)])) for n in ways]
    cuts = [0, *sorted(set().union(*ends))]
    pieces = {end: Width(end - start, name) for start, end in pairwise(cuts)}
    return [
        [whole([w for end, w in pieces.items() if start < end <= stop]) for start, stop in pairwise([0, *stops])]
        for stops in ends
    ]


def whole(parts: Sequence[Width]) -> Width:
    """Widths end to end, as one."""
    return parts[0] if len(parts) == 1 else Concat(*parts)
