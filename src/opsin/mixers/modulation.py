"""Scale-aware modulation: kernels of several sizes weigh what each place says. Lin et al., 2023, arXiv:2307.08579"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers.act import GELU
from ..width import Groups, Width


class ScaleAwareModulation(nn.Module):
    """proj(gather([conv_i(s(x)_i)]) * v(x)) over maps (B, H, W, C), conv_i depthwise of size 3, 5, 7, ...

    Each head's run of channels has its own kernel; `gather` first mixes the heads' channels of one index, then all.
    """

    def __init__(self, dim: int, heads: int = 4, expand: int = 2, bias: bool = True):
        super().__init__()
        if dim % heads:
            raise ValueError(f"{int(dim)} channels make no {heads} heads of one size: give a divisor")
        self.heads = heads
        share = Width(dim // heads, "share")
        inner, both = Groups(heads, share), Groups(share, Width(expand * heads, "mixed"))
        self.v, self.s = nn.Linear(dim, dim, bias), nn.Linear(dim, inner, bias)
        self.convs = nn.ModuleList(
            nn.Conv2d(share, share, 3 + 2 * i, padding=1 + i, groups=share) for i in range(heads)
        )
        self.mix = nn.Sequential(
            nn.Conv2d(Groups(share, heads), both, 1, groups=share),
            nn.BatchNorm2d(both),
            GELU(),
            nn.Conv2d(both, dim, 1),
        )
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.s(x).movedim(-1, 1).chunk(self.heads, 1)
        seen = torch.stack([conv(head) for conv, head in zip(self.convs, heads)], 2).flatten(1, 2)
        return self.proj(self.mix(seen).movedim(1, -1) * self.v(x))
