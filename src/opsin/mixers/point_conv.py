"""Dense convolutions with kernels that points draw, in the plane and over time. Kim & Park, 2023, arXiv:2304.02330"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .smpconv import tents


def averaged(coords: Tensor, radius: Tensor, weights: Tensor, size: int) -> Tensor:
    """Kernels (O, I, size) or (O, I, size, size): at each tap the mean of what points in reach weigh.

    Args:
        coords: (O, P, 1) on a line or (O, P, 2) in the plane: every output channel has its own points.
        radius: (O, P).
        weights: (O, I, P).
        size: taps along each axis.
    """
    near = tents(coords, radius, size)
    count = (near != 0).to(near.dtype).sum(1, keepdim=True)
    near = near / (count + 1e-6)
    return torch.einsum("oip,op...->oi...", weights, near)


class PointConv(nn.Module):
    """Points of a kernel and a bias; its children say how they convolve. `size` taps, on `axes` axes"""

    axes = {"coords": ("cout",), "radius": ("cout",), "weights": ("cout", "cin"), "bias": ("cout",)}
    no_decay = ("coords", "radius")

    def __init__(self, cin: int, cout: int, points: int, radius: float, dims: int):
        super().__init__()
        self.cin, self.cout = cin, cout
        self.coords = nn.Parameter(torch.empty(cout, points, dims))
        self.radius = nn.Parameter(torch.full((cout, points), radius))
        self.weights = nn.Parameter(torch.empty(cout, cin, points))
        self.bias = nn.Parameter(torch.zeros(cout))
        nn.init.trunc_normal_(self.weights, std=0.02)

    def drawn(self, size: int) -> Tensor:
        return averaged(self.coords, self.radius, self.weights, size)

    @torch.no_grad()
    def clip(self) -> None:
        """Hold the radii between 1/10000 and 1; call it behind the optimiser's step."""
        self.radius.clamp_(1e-4, 1)


class PointConv2d(PointConv):
    """conv(x) + bias over maps (B, C, H, W), whose size is kept; kernels have an odd number of taps on a side"""

    def __init__(self, cin: int, cout: int, size: int = 33, points: int = 16, radius: float = 0.12, std: float = 0.05):
        super().__init__(cin, cout, points, radius, 2)
        if size % 2 == 0:
            raise ValueError(f"a kernel of {size} taps has no middle: take an odd number")
        self.size = size
        nn.init.trunc_normal_(self.coords, std=std, a=-1, b=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.drawn(self.size), self.bias, padding=self.size // 2)


class PointConv1d(PointConv):
    """conv(x) + bias over series (B, C, L), causal: no sample sees a later one

    The kernel is as long as the first series it meets, and stays so: `length`, which is saved.
    """

    length: Tensor

    def __init__(self, cin: int, cout: int, points: int = 30, radius: float = 0.002, std: float = 0.5):
        super().__init__(cin, cout, points, radius, 1)
        self.register_buffer("length", torch.tensor(0))
        nn.init.trunc_normal_(self.coords, std=std, a=-1, b=0)
        self.coords.data.mul_(2).add_(1)  # most of them at the end, where the latest samples are

    def forward(self, x: Tensor) -> Tensor:
        if not self.length:
            self.length.fill_(x.shape[-1])
        size = int(self.length)
        return F.conv1d(F.pad(x, (size - 1, 0)), self.drawn(size), self.bias)
