"""A head of large kernels for a class a pixel. Yun et al., 2024, arXiv:2406.02021"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..channels.ffnified import ConvMlp
from ..layers import DropPath
from ..layers.act import GELU
from ..layers.reparam import ConvNorm
from ..layers.strips import StripSum
from ..mixers.ffnified import FfnifiedAttention
from ..width import Concat, Width


class HeadBlock(nn.Module):
    """x = gelu(x + drop(mixer(x))), then gelu(x + drop(mlp(x)))"""

    def __init__(self, dim: int, kernel: int, ratio: float, drop: float):
        super().__init__()
        self.mixer = FfnifiedAttention(dim, kernel, conv=StripSum)
        self.mlp, self.drop = ConvMlp(dim, kernel, ratio, conv=StripSum), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(x + self.drop(self.mixer(x)))
        return F.gelu(x + self.drop(self.mlp(x)))


class FFNetHead(nn.Module):
    """fc(drop(align(blocks(squeeze([maps, all as fine as the first]))))): maps to logits (B, classes, H_0, W_0)

    The paper's head reads strides 8, 16 and 32: `Segmenter(network, (1, 2, 3), FFNetHead(widths, classes))`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        classes: int,
        dim: int = 256,
        depth: int = 3,
        kernel: int = 9,
        ratio: float = 4.0,
        hidden: int | None = None,
        drop: float = 0.1,
    ):
        super().__init__()
        dim, inner = Width(dim, "head"), Width(sum(widths), "squeezed")
        wide = Width(4 * dim if hidden is None else hidden, "aligned")
        self.squeeze = nn.Sequential(ConvNorm(Concat(*widths), inner, 1), GELU(), ConvNorm(inner, dim, 1))
        self.blocks = nn.Sequential(*[HeadBlock(dim, kernel, ratio, drop) for _ in range(depth)])
        self.align = nn.Sequential(ConvNorm(dim, wide, 1), GELU())
        self.drop, self.fc = nn.Dropout(drop), nn.Conv2d(wide, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        size = maps[0].shape[2:]
        same = [maps[0], *[F.interpolate(m, size, mode="bicubic", align_corners=False) for m in maps[1:]]]
        return self.fc(self.drop(self.align(self.blocks(self.squeeze(torch.cat(same, 1))))))
