"""Boxes (N, 4) as left, top, right, bottom in pixels: overlap, codes against anchors, matching, suppression."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST = math.log(1000 / 16)
"""Of a coded logarithm of a size: what an untrained head says must not overflow."""


def area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every pair, (N, 4) and (M, 4) -> (N, M)."""
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp(min=0).prod(2)
    return both / (area(a)[:, None] + area(b)[None] - both).clamp(min=1e-9)


def centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sizes, (..., 2) each."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low


def encode(boxes: Tensor, anchors: Tensor, scale: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """Boxes (..., 4) as offsets of centres in sizes of the anchor, and logarithms of sizes (R-CNN, arXiv:1311.2524)."""
    (at, size), (middle, side) = centred(boxes), centred(anchors)
    return torch.cat([(at - middle) / side, (size / side).log()], -1) * boxes.new_tensor(scale)


def decode(codes: Tensor, anchors: Tensor, scale: Sequence[float] = (1, 1, 1, 1)) -> Tensor:
    """The boxes of codes (..., 4), what `encode` is undone by."""
    codes, (middle, side) = codes / codes.new_tensor(scale), centred(anchors)
    at, half = middle + codes[..., :2] * side, codes[..., 2:].clamp(max=LARGEST).exp() * side / 2
    return torch.cat([at - half, at + half], -1)


def anchors(
    maps: Sequence[tuple[int, int]], sides: Sequence[Sequence[tuple[float, float]]], image: tuple[int, int]
) -> Tensor:
    """Boxes (sum of H_i W_i K_i, 4), at every place of maps H_i x W_i of an image those of K_i widths and heights."""
    out = []
    for (rows, columns), forms in zip(maps, sides, strict=True):
        y = (torch.arange(rows) + 0.5) * (image[0] / rows)
        x = (torch.arange(columns) + 0.5) * (image[1] / columns)
        middle = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], -1)[:, :, None]
        half = torch.tensor(forms) / 2
        out.append(torch.cat([middle - half, middle + half], -1).flatten(0, 2))
    return torch.cat(out)


def matched(truth: Tensor, anchors: Tensor, low: float, high: float) -> Tensor:
    """Which box (G, 4) each anchor (N, 4) answers for: its index, -1 for none, -2 for undecided; (N,).

    From `high` overlap on an anchor takes its best box, below `low` none. Every box has the anchors that overlap it
    most, however little that is.
    """
    if not len(truth):
        return torch.full((len(anchors),), -1, device=anchors.device)
    overlap = iou(truth, anchors)
    best, found = overlap.max(0)
    chosen = torch.where(best >= high, found, torch.where(best < low, -1, -2))
    own = ((overlap == overlap.amax(1, keepdim=True)) & (overlap > 0)).any(0)
    return torch.where(own, found, chosen)


def suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, most: float = 0.5, count: int = 100) -> Tensor:
    """Indices of at most `count` boxes, best first, none overlapping a better one of its class by more than `most`."""
    order = scores.argsort(descending=True)
    keep: list[Tensor] = []
    while len(order) and len(keep) < count:
        first, rest = order[0], order[1:]
        keep.append(first)
        apart = iou(boxes[first][None], boxes[rest])[0] <= most
        order = rest[apart | (labels[rest] != labels[first])]
    return torch.stack(keep) if keep else order
