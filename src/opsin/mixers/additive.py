"""Additive attention by convolutions: no product of queries and keys. Zhang et al., 2024, arXiv:2408.03703"""

from __future__ import annotations

from torch import Tensor, nn

from ..width import Concat


class PlaceGate(nn.Module):
    """x * sigmoid(point(relu(norm(dwconv(x))))): one weight for each place, maps (B, C, H, W)"""

    def __init__(self, dim: int):
        super().__init__()
        dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.weigh = nn.Sequential(dwconv, nn.BatchNorm2d(dim), nn.ReLU(), nn.Conv2d(dim, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x).sigmoid()


class ChannelGate(nn.Module):
    """x * sigmoid(conv(mean(x))): one weight for each channel, maps (B, C, H, W)"""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(x.mean((2, 3), keepdim=True)).sigmoid()


class AdditiveAttention(nn.Module):
    """proj(near(gated q + gated k) * v) over maps (B, C, H, W), `near` and `proj` depthwise

    Queries and keys each go through a gate of places and one of channels; the cost grows with the places, not their
    square.
    """

    def __init__(self, dim: int, bias: bool = False):
        super().__init__()
        self.qkv = nn.Conv2d(dim, Concat(dim, dim, dim), 1, bias=bias)
        self.q, self.k = (nn.Sequential(PlaceGate(dim), ChannelGate(dim)) for _ in range(2))
        self.near, self.proj = (nn.Conv2d(dim, dim, 3, padding=1, groups=dim) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, 1)
        return self.proj(self.near(self.q(q) + self.k(k)) * v)
