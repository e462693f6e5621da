"""Mixing and shifting: groups of channels look at places at several distances. Zheng et al., 2022, arXiv:2202.06510"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..width import Concat, Width


def chunked(dim: int, parts: int) -> Concat:
    """`dim` channels in so many runs, all but the last of one length.

    Raises:
        ValueError: too few channels for that many runs.
    """
    most = -(dim // -parts)
    sizes = [min(most, dim - start) for start in range(0, dim, most)]
    if len(sizes) != parts:
        raise ValueError(f"{int(dim)} channels fall into {len(sizes)} runs of {most}, not {parts}: give more channels")
    return Concat(*[Width(size, "group") for size in sizes])


class MixShift(nn.Module):
    """[across_g(roll x_g) + along_g(roll x_g)] over maps (B, C, H, W), depthwise kernels on shifted groups of channels

    Each group is rolled by its own number of columns for the one convolution and of rows for the other. `dim` is laid
    out by `chunked`, or a number of channels.
    """

    def __init__(self, dim: int, kernels: Sequence[int] = (1, 3, 3, 5, 7), shifts: Sequence[int] = (-2, -1, 0, 1, 2)):
        super().__init__()
        if len(kernels) != len(shifts):
            raise ValueError(f"{len(kernels)} kernels for {len(shifts)} shifts: give one for each")
        self.sizes = dim.parts if isinstance(dim, Concat) else chunked(dim, len(shifts)).parts
        self.shifts = tuple(shifts)
        self.across, self.along = (
            nn.ModuleList(
                nn.Conv2d(n, n, k, padding=k // 2, groups=n) for n, k in zip(self.sizes, kernels, strict=True)
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        groups = x.split([int(size) for size in self.sizes], 1)
        across = [conv(g.roll(s, 3)) for conv, g, s in zip(self.across, groups, self.shifts)]
        along = [conv(g.roll(s, 2)) for conv, g, s in zip(self.along, groups, self.shifts)]
        return torch.cat(across, 1) + torch.cat(along, 1)
