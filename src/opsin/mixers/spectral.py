"""Spectral pooling: bands of spatial frequencies, weighed apart, modulate. Yun et al., 2023, arXiv:2308.11568"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Concat
from .mix_shift import chunked

SHARES = (0.7, 0.8, 0.9)


BEYOND, INSIDE, ON = 0, 1, 2


def places(rows: int, columns: int, radius: float) -> Tensor:
    """Whether frequencies (rows, columns), the lowest in the middle, lie inside a circle, on it, or beyond."""
    y = torch.arange(rows) - columns // 2  # as published; the middle, where maps are square
    x = torch.arange(columns) - rows // 2
    far, limit = y[:, None] ** 2 + x**2, radius**2
    return (INSIDE * (far < limit) + ON * (far == limit)).to(torch.uint8)


class SpectralFilter(nn.Module):
    """A map (B, C, H, W) whose frequencies count `share` within `radius`, 1 - share beyond and 1/3 on the circle

    Nothing is learned. The circle is that of maps of `grid` rows and columns; others get it padded or cut.
    """

    places: Tensor

    def __init__(self, grid: tuple[int, int] = (14, 14), radius: float = 2.0, share: float = 0.7):
        super().__init__()
        self.share = share
        far = (grid[0] // 2) ** 2 + (grid[1] // 2) ** 2  # of the corner
        self.corner = INSIDE if far < radius**2 else ON if far == radius**2 else BEYOND
        self.register_buffer("places", places(*grid, radius), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)  # what Fourier transforms take
        h, w = x.shape[-2:]
        weights = torch.fft.ifftshift(self.weights(h, w, wide))
        opposite = weights.flip(0, 1).roll((1, 1), (0, 1))  # of the frequency that turns the other way
        weights = (weights + opposite)[:, : w // 2 + 1] / 2  # what the real part of the answer sees
        y = torch.fft.irfft2(torch.fft.rfft2(x.to(wide), norm="ortho") * weights, s=(h, w), norm="ortho")
        return y.to(x.dtype)

    def weights(self, h: int, w: int, dtype: torch.dtype) -> Tensor:
        """What each frequency counts for maps of h rows and w columns, the lowest in the middle."""
        tall, wide = h - self.places.shape[0], w - self.places.shape[1]
        sides = (wide // 2 + wide % 2, wide // 2, tall // 2 + tall % 2, tall // 2)
        at = F.pad(self.places, sides, value=self.corner) if any(sides) else self.places
        inside, on, beyond = ((at == place).to(dtype) for place in (INSIDE, ON, BEYOND))
        return inside * self.share + beyond * (1 - self.share) + on / 3


class SpectralModulation(nn.Module):
    """proj_out(y * sum of point_i(filter_i(y_i))), y = column(row(proj_in(x))), over maps (B, H, W, C)

    `row` and `column` are depthwise. Each run of y's channels is filtered with another share of low frequencies.
    """

    def __init__(
        self,
        dim: int,
        kernel: int = 7,
        radius: float = 2.0,
        grid: tuple[int, int] = (14, 14),
        shares: Sequence[float] = SHARES,
    ):
        super().__init__()
        self.sizes = chunked(dim, len(shares)).parts
        inner = Concat(*self.sizes)
        self.proj_in, self.proj_out = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.row = nn.Conv2d(inner, inner, (1, kernel), padding=(0, kernel // 2), groups=inner)
        self.column = nn.Conv2d(inner, inner, (kernel, 1), padding=(kernel // 2, 0), groups=inner)
        self.filters = nn.ModuleList(SpectralFilter(grid, radius, share) for share in shares)
        self.points = nn.ModuleList(nn.Conv2d(size, inner, 1) for size in self.sizes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.column(self.row(self.proj_in(x).movedim(-1, 1)))
        parts = y.split([int(size) for size in self.sizes], 1)
        seen = [point(one(part)) for point, one, part in zip(self.points, self.filters, parts)]
        return self.proj_out((y * torch.stack(seen).sum(0)).movedim(1, -1))
