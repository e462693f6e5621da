"""Kernels drawn by points that move: continuous convolution. Kim & Park, 2023, arXiv:2304.02330

A kernel's value at a tap is the sum of what points near it weigh. Coordinates run from -1 to 1, to the right, and up.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..width import Width

LEAST = 1e-4  # the smallest radius, which nothing is divided below


def tents(coords: Tensor, radius: Tensor, size: int) -> Tensor:
    """max(0, 1 - distance / radius) of every point at every tap, the distance a sum over axes.

    Args:
        coords: (..., P, 2) in the plane, or (..., P, 1) on a line.
        radius: (..., P).
        size: taps along each axis.

    Returns:
        (..., P, size, size), rows from top to bottom; (..., P, size) on a line.
    """
    at = torch.linspace(-1, 1, size, dtype=coords.dtype, device=coords.device)
    far = (coords[..., 0, None] - at).abs()
    if coords.shape[-1] == 2:
        far, radius = (coords[..., 1, None] + at).abs()[..., None] + far[..., None, :], radius[..., None]
    return F.relu(1 - far / radius.clamp(min=LEAST)[..., None])


class SMPConv(nn.Module):
    """dwconv(x) over maps (B, C, H, W), whose kernels are weighted sums of the tents of `points` shared by all channels

    A quarter of the taps are points by default. In inference kernels are drawn once and kept until weights change;
    `merged` makes a plain convolution. Keep radii within 1 while training: call `clip` behind the optimiser's step.
    """

    axes = {"coords": ("points", None), "radius": ("points",), "weights": ("dim", "points")}
    no_decay = ("radius",)

    def __init__(self, dim: int, kernel: int = 31, points: int | None = None):
        super().__init__()
        self.dim, self.kernel = dim, kernel
        self.points = Width(points or kernel**2 // 4, "points")
        self.coords = nn.Parameter(torch.empty(self.points, 2))
        self.radius = nn.Parameter(torch.full((self.points,), 4 / kernel))
        self.weights = nn.Parameter(torch.empty(dim, self.points))
        nn.init.trunc_normal_(self.coords, std=0.2, a=-1, b=1)
        nn.init.trunc_normal_(self.weights, std=0.02)
        self._held: tuple[Any, Tensor] | None = None

    def drawn(self) -> Tensor:
        """The kernels (C, 1, k, k) that the points draw now."""
        return torch.einsum("cp,phw->chw", self.weights, tents(self.coords, self.radius, self.kernel))[:, None]

    def kernels(self) -> Tensor:
        """Those drawn, or those kept from before where no weight has changed since."""
        parts = (self.coords, self.radius, self.weights)
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or any(t.is_inference() for t in parts):
            return self.drawn()
        state = [(t, t._version, t.data_ptr(), t.dtype) for t in parts]
        if self._held is None or not unchanged(self._held[0], state):
            self._held = state, self.drawn()
        return self._held[1]

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernels(), padding=self.kernel // 2, groups=x.shape[1])

    @torch.no_grad()
    def clip(self) -> None:
        """Hold the radii between 1/1000 and 1."""
        self.radius.clamp_(1e-3, 1)

    @torch.no_grad()
    def merged(self) -> nn.Conv2d:
        """A depthwise convolution with the kernels of now."""
        out = nn.Conv2d(self.dim, self.dim, self.kernel, padding=self.kernel // 2, groups=self.dim, bias=False)
        out.weight = nn.Parameter(self.drawn())
        return out


def unchanged(before: list[Any], now: list[Any]) -> bool:
    return all(a[0] is b[0] and a[1:] == b[1:] for a, b in zip(before, now, strict=True))
