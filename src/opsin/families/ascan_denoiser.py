"""AsCAN's diffusion U-Net: the classifier's blocks down, and mirrored up. Kag et al., 2024, arXiv:2411.04967

No code was published. Convolutions are told the step and the class by a scale and a shift a channel, attention by its
norms; widths, and gates that start at zero as in DiT (arXiv:2212.09748), are ours. Takes noisy latents (B, C, H, W),
steps (B) and labels (B), of which the one behind the last class is none; predicts noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks.inverted import Fused
from ..channels.mlp import Mlp
from ..layers import Conv, LayerNorm
from ..layers.act import GELU
from ..layers.timestep import Modulate, Timestep
from ..mixers.distance import DistanceAttention
from ..width import Concat, each
from .ascan import check, gate

norm = partial(LayerNorm, dim=1)


class ConvStep(Fused):
    """x + g project(gate(expand(x) (1 + scale) + shift)): g, scale and shift read off the condition c (B, D)"""

    def __init__(self, dim: int, seen: int):
        super().__init__(dim, dim, 3, 1, 4, 0.0, partial(Conv, act=GELU, norm=norm), gate)
        hidden = cast(Conv, self.expand).conv.out_channels
        self.inner, self.outer = Modulate(seen, hidden, 2), Modulate(seen, dim, 1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:  # type: ignore[override]  # one input more
        shift, scale = (t[:, :, None, None] for t in self.inner(c))
        y = self.project(self.gate(self.expand(x) * (1 + scale) + shift))
        return x + self.outer(c)[0][:, :, None, None] * y


class AttentionStep(nn.Module):
    """x <- x + g f(norm(x) (1 + scale) + shift) for f = attention, mlp: g, scale and shift read off c (B, D)"""

    def __init__(self, dim: int, seen: int, size: int, side: int):
        super().__init__()
        self.outer = Modulate(seen, dim, 6)
        self.norms = nn.ModuleList(LayerNorm(dim) for _ in range(2))
        self.parts = nn.ModuleList([DistanceAttention(dim, dim // size, (side, side)), Mlp(dim)])

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        x, told = x.movedim(1, -1), [t[:, None, None] for t in self.outer(c)]
        for i, (part, norm) in enumerate(zip(self.parts, self.norms)):
            shift, scale, g = told[3 * i : 3 * i + 3]
            x = x + g * part(norm(x) * (1 + scale) + shift)
        return x.movedim(-1, 1)


class Steps(nn.ModuleList):
    """Blocks one behind the other, each told the condition"""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        for block in self:
            x = block(x, c)
        return x


class AsCANDenoiser(nn.Module):
    """out(ups(downs(stem(x)))): the up path has the down path's blocks in reverse, and reads its maps

    `side` is that of the latents it is trained on; others work too, if they are multiples of 2^(stages - 1).
    """

    def __init__(
        self,
        classes: int,
        pattern: Sequence[str] = ("CC", "CCT", "CTT", "TT"),
        dims: Sequence[int] = (128, 256, 384, 512),
        channels: int = 4,
        side: int = 32,
        size: int = 32,
    ):
        super().__init__()
        check(pattern)
        dims, seen = each(*dims), 4 * int(dims[0])
        self.time = Timestep(seen, seen, int(dims[0]))
        self.labels = nn.Embedding(classes + 1, int(seen))

        def stage(i: int, kinds: str) -> Steps:
            made: dict[str, Callable[..., nn.Module]] = {
                "C": ConvStep,
                "T": partial(AttentionStep, size=size, side=side >> i),
            }
            return Steps(made[kind](dims[i], seen) for kind in kinds)

        self.stem = nn.Conv2d(channels, dims[0], 3, padding=1)
        self.downs = nn.ModuleList(stage(i, kinds) for i, kinds in enumerate(pattern))
        self.ups = nn.ModuleList(stage(i, kinds[::-1]) for i, kinds in enumerate(pattern))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(dims))
        self.merge = nn.ModuleList(nn.Conv2d(Concat(a, b), a, 1) for a, b in pairwise(dims))
        self.norm, self.out = norm(dims[0]), nn.Conv2d(dims[0], channels, 3, padding=1)
        for m in self.modules():
            if isinstance(m, ConvStep | AttentionStep):  # blocks start as the identity
                nn.init.zeros_(m.outer.proj.weight)
                nn.init.zeros_(m.outer.proj.bias)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        c = self.time(t) + self.labels(labels)
        x, skips = self.stem(x), []
        for i, down in enumerate(self.downs):
            x = down(self.shrink[i - 1](x) if i else x, c)
            skips.append(x)
        for i in reversed(range(len(self.ups))):
            if i < len(self.merge):
                x = self.merge[i](torch.cat([skips[i], F.interpolate(x, scale_factor=2.0, mode="nearest")], 1))
            x = self.ups[i](x, c)
        return self.out(self.norm(x))
