"""Point clouds as pictures from several sides, for networks of images. Wang et al., 2022, arXiv:2208.02812

The projection of UniRepLKNet's point network (arXiv:2311.15599): features of a point and its neighbours are added up
where the point is seen, and pictures from all sides look at each other before they become images.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..channels.mlp import Mlp
from ..layers.act import GELU
from ..layers.pool import GlobalAverage
from ..mixers.attention import Attention
from ..width import Concat, Width
from .classify import linear
from .network import Network
from .prenorm import PreNorm
from .residual import Basic

QUARTER = math.pi / 2
ANGLES = (
    *[(i * QUARTER, 0.0, QUARTER) for i in range(4)],
    *[
        (a * QUARTER, b * QUARTER, QUARTER)
        for a, b in ((2.5, -0.5), (2.5, 0.5), (3.5, -0.5), (3.5, 0.5), (0, -1), (0, 1))
    ],
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Neighbours(nn.Module):
    """(B, N, 3) -> (B, dim, N): the largest, over the k nearest points, of act(norm(conv([neighbour - own, own])))"""

    def __init__(self, dim: int, k: int = 32, hidden: int = 8):
        super().__init__()
        self.k, hidden = k, Width(hidden, "coordinates")
        self.embed = nn.Conv1d(3, hidden, 1)
        self.conv, self.norm = nn.Conv2d(Concat(hidden, hidden), int(dim), 1, bias=False), nn.GroupNorm(4, int(dim))
        self.proj = nn.Conv1d(int(dim), dim, 1)

    def forward(self, points: Tensor) -> Tensor:
        near = torch.cdist(points, points).topk(self.k, largest=False).indices  # (B, N, k), the point itself among them
        own = self.embed(points.mT)
        beside = torch.stack([features[:, index] for features, index in zip(own, near)])
        own = own[..., None].expand_as(beside)
        y = self.norm(self.conv(torch.cat([beside - own, own], 1)))
        return self.proj(F.leaky_relu(y, 0.2).amax(-1))


class Views(nn.Module):
    """Points (B, N, 3) and their features (B, C, N) to pictures (B V, C, side, side), from V sides of the cloud

    A point adds its features to the 3x3 pixels around its own; the cloud is scaled to `extent` pixels, and centred.
    """

    turns: Tensor

    def __init__(self, views: int = 4, side: int = 224, extent: int = 224):
        super().__init__()
        if not 1 <= views <= len(ANGLES):
            raise ValueError(f"there are 1 to {len(ANGLES)} views, not {views}")
        if extent % 2 or not 4 <= extent <= side:
            raise ValueError(f"extent {extent} must be even, at least 4, and at most the side, {side}")
        self.side, self.extent = side, extent
        turns = torch.stack([rotation(*angles) for angles in ANGLES[:views]])
        self.register_buffer("turns", turns, persistent=False)

    def forward(self, points: Tensor, features: Tensor) -> Tensor:
        seen = torch.einsum("bnc,vcd->bvnd", points, self.turns.to(points.dtype)).flatten(0, 1)[..., :2]
        features = features.repeat_interleave(len(self.turns), 0)
        pixels = self.pixels(seen)
        around = torch.cartesian_prod(*[torch.arange(-1, 2, device=points.device)] * 2)
        at = pixels[:, :, None] + around  # (B V, N, 9, 2)
        at = (at[..., 0] * self.extent + at[..., 1]).flatten(1)
        values = features[..., None].expand(-1, -1, -1, 9).flatten(2)
        flat = features.new_zeros(*features.shape[:2], self.extent**2)
        flat.scatter_add_(2, at[:, None].expand_as(values), values)
        margin = self.side - self.extent
        picture = flat.unflatten(2, (self.extent, self.extent))
        return F.pad(picture, (margin // 2, margin - margin // 2) * 2)

    def pixels(self, seen: Tensor) -> Tensor:
        """Rows and columns (B, N, 2) of the points, the cloud in the middle and a pixel left free around it."""
        low, high = seen.amin(1, keepdim=True), seen.amax(1, keepdim=True)
        step = (high - low).amax(2, keepdim=True).clamp(min=1e-9) / (self.extent - 3)
        at = ((seen - low) / step).floor().long()
        middle = torch.div(at.amax(1, keepdim=True) + at.amin(1, keepdim=True), 2, rounding_mode="floor")
        return at - middle + self.extent // 2 - 1


def rotation(a: float, b: float, c: float) -> Tensor:
    """The transposed product of turns about the three axes."""
    made = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate((a, b, c)):
        turn = torch.eye(3, dtype=torch.float64)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = math.cos(angle)
        sign = -1 if axis == 1 else 1
        turn[i, j], turn[j, i] = -sign * math.sin(angle), sign * math.sin(angle)
        made = made @ turn
    return made.mT


class ViewFusion(nn.Module):
    """merge([spread(block(patches(x))), x]): the pictures of a cloud look at each other in patches of 7 pixels"""

    def __init__(self, dim: int, views: int, hidden: int = 128, heads: int = 8):
        super().__init__()
        hidden, self.views = Width(hidden, "tokens"), views
        self.patches = nn.Conv2d(dim, hidden, 7, 7, bias=False)
        attention = Attention(hidden, heads, qkv_bias=False, size=128)
        self.block = PreNorm(hidden, attention, Mlp(hidden, 2.0), eps=1e-5)
        self.spread = nn.Sequential(nn.Conv2d(hidden, dim, 3, padding=1), GELU())
        self.merge = nn.Sequential(nn.Conv2d(Concat(dim, dim), dim, 1), GELU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x)
        size = y.shape[2:]
        tokens = y.unflatten(0, (-1, self.views)).permute(0, 1, 3, 4, 2).flatten(1, 3)
        y = self.block(tokens).unflatten(1, (self.views, *size)).flatten(0, 1).movedim(-1, 1)
        return self.merge(torch.cat([self.spread(F.interpolate(y, x.shape[2:], mode="nearest")), x], 1))


class PointsToImages(nn.Module):
    """(B, N, 3) -> (B V, 3, side, side), normalised like photographs; the V images of a cloud follow each other"""

    mean: Tensor
    std: Tensor

    def __init__(self, views: int = 4, side: int = 224, k: int = 32, hidden: int = 8, dim: int = 64, extent: int = 224):
        super().__init__()
        dim = Width(dim, "picture")
        self.neighbours, self.views = Neighbours(dim, k, hidden), Views(views, side, extent)
        self.conv = nn.Sequential(Basic(dim, dim), nn.Conv2d(dim, dim, 1))
        self.fusion, self.proj = ViewFusion(dim, views), nn.Conv2d(dim, 3, 1)
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float64)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD, dtype=torch.float64)[:, None, None], persistent=False)

    def forward(self, points: Tensor) -> Tensor:
        pictures = self.fusion(self.conv(self.views(points, self.neighbours(points))))
        y = self.proj(pictures).sigmoid()
        return (y - self.mean.to(y.dtype)) / self.std.to(y.dtype)


class PointClassifier(nn.Module):
    """fc(norm([pooled maps of all views])): clouds (B, N, 3) to class logits by a network of images"""

    def __init__(self, images: PointsToImages, network: Network, num_classes: int):
        super().__init__()
        width = Concat(*[network.backbone.widths[-1]] * len(images.views.turns))
        self.images, self.backbone, self.pool = images, network.backbone, GlobalAverage()
        self.norm, self.fc = nn.LayerNorm(width), linear(width, num_classes)

    def forward(self, points: Tensor) -> Tensor:
        maps = self.backbone(self.images(points)).maps[-1]
        return self.fc(self.norm(self.pool(maps).unflatten(0, (len(points), -1)).flatten(1)))
