"""Detectors of one stage: backbone, pyramid, and at every place of it classes and boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Network
from ..errors import OpsinError
from . import boxes

Truth = Mapping[str, Tensor]


class TruthError(OpsinError, ValueError):
    """Boxes or labels that no image can have."""


class Detector(nn.Module):
    """Images (B, C, H, W) to class logits (B, N, K) and codes of boxes (B, N, 4) at N anchors

    Args:
        network: whose backbone is read, at `taps`.
        neck: maps to levels. tower: levels to logits and codes; `classes` is K.
        sides: widths and heights of each level's anchors in pixels, from the image's height and width.
        criterion: loss of logits, codes, anchors and truths; `scores` of logits, `scale` of codes.
    """

    tower: Any
    criterion: Any

    def __init__(
        self, network: Network, taps: Sequence[int], neck: nn.Module, tower: nn.Module,
        sides: Callable[[tuple[int, int]], list[list[tuple[float, float]]]], criterion: nn.Module,
    ):  # fmt: skip
        super().__init__()
        self.backbone: Any = network.backbone
        self.taps, self.neck, self.tower, self.sides, self.criterion = tuple(taps), neck, tower, sides, criterion

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, N, K), codes (B, N, 4), anchors (N, 4)."""
        levels = self.neck(self.backbone(x, self.taps).maps)
        logits, codes = self.tower(levels)
        size = (x.shape[2], x.shape[3])
        places = [(level.shape[2], level.shape[3]) for level in levels]
        return logits, codes, boxes.anchors(places, self.sides(size), size).to(x)

    def loss(self, x: Tensor, truths: Sequence[Truth]) -> Tensor:
        """Mean loss of images (B, C, H, W) with each `boxes` (G, 4) in pixels and `labels` (G,) of 0 to K - 1.

        Raises:
            TruthError: boxes without area, or labels that are no classes.
        """
        for i, truth in enumerate(truths):
            checked(truth, i, self.tower.classes)
        out: Tensor = self.criterion(*self(x), truths)
        return out

    @torch.no_grad()
    def detect(self, x: Tensor, score: float = 0.05, overlap: float = 0.5, most: int = 100) -> list[dict[str, Tensor]]:
        """For each image `boxes` (n, 4), `scores` (n,) and `labels` (n,), best first."""
        logits, codes, anchors = self(x)
        size = torch.tensor([x.shape[3], x.shape[2]] * 2).to(x)
        out = []
        for shares, found in zip(self.criterion.scores(logits), boxes.decode(codes, anchors, self.criterion.scale)):
            value, which = shares.flatten().topk(min(1000, shares.numel()))
            value, which = value[value > score], which[value > score]
            at, label = found[which // shares.shape[1]].clamp(min=0).minimum(size), which % shares.shape[1]
            keep = boxes.suppressed(at, value, label, overlap, most)
            out.append({"boxes": at[keep], "scores": value[keep], "labels": label[keep]})
        return out


def checked(truth: Truth, image: int, classes: int) -> None:
    at, labels = truth["boxes"], truth["labels"]
    if at.ndim != 2 or at.shape[1] != 4 or len(at) != len(labels):
        raise TruthError(f"image {image}: boxes {tuple(at.shape)} and {len(labels)} labels; (G, 4) and (G,) are needed")
    if len(at) and not (at[:, 2:] > at[:, :2]).all():
        flat = at[~(at[:, 2:] > at[:, :2]).all(1)][0].tolist()
        raise TruthError(f"image {image}: box {flat} has no area; give left, top, right, bottom in pixels")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise TruthError(f"image {image}: labels go from {labels.min()} to {labels.max()}, there are {classes} classes")


def flattened(maps: Sequence[Tensor], size: int) -> Tensor:
    """Maps (B, K size, H, W) to what each anchor says, (B, sum of H W K, size)."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(len(m), -1, size) for m in maps], 1)


class FocalLoss(nn.Module):
    """Sigmoids with focal loss, L1 on the codes of matched anchors, both a matched anchor (RetinaNet, arXiv:1708.02002)

    An anchor with an overlap of 0.4 to 0.5 is not counted.
    """

    scale = (1.0, 1.0, 1.0, 1.0)

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0):
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def scores(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def forward(self, logits: Tensor, codes: Tensor, anchors: Tensor, truths: Sequence[Truth]) -> Tensor:
        losses = []
        for said, coded, truth in zip(logits, codes, truths):
            found = boxes.matched(truth["boxes"], anchors, 0.4, 0.5)
            own = found >= 0
            wanted = torch.zeros_like(said)
            wanted[own, truth["labels"][found[own]]] = 1
            aims = boxes.encode(truth["boxes"][found[own]], anchors[own], self.scale)
            total = self.focal(said[found != -2], wanted[found != -2]).sum() + (coded[own] - aims).abs().sum()
            losses.append(total / own.sum().clamp(min=1))
        return torch.stack(losses).mean()

    def focal(self, logits: Tensor, wanted: Tensor) -> Tensor:
        p = logits.sigmoid()
        off = p * (1 - wanted) + (1 - p) * wanted
        weight = self.alpha * wanted + (1 - self.alpha) * (1 - wanted)
        return weight * off**self.gamma * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


class MultiBoxLoss(nn.Module):
    """Softmax with a class for nothing (the first), three of the worst empty anchors for every matched one, and smooth
    L1 on the codes of those (SSD, arXiv:1512.02325)"""

    scale = (10.0, 10.0, 5.0, 5.0)

    def __init__(self, empty: float = 3.0):
        super().__init__()
        self.empty = empty

    def scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)[..., 1:]

    def forward(self, logits: Tensor, codes: Tensor, anchors: Tensor, truths: Sequence[Truth]) -> Tensor:
        total, count = logits.new_zeros(()), 0
        for said, coded, truth in zip(logits, codes, truths):
            found = boxes.matched(truth["boxes"], anchors, 0.5, 0.5)
            own = found >= 0
            wanted = torch.zeros_like(found)
            wanted[own] = truth["labels"][found[own]] + 1
            wrong = F.cross_entropy(said, wanted, reduction="none")
            hard = wrong[~own].sort(descending=True).values[: int(self.empty * max(1, int(own.sum())))]
            aims = boxes.encode(truth["boxes"][found[own]], anchors[own], self.scale)
            total = total + wrong[own].sum() + hard.sum() + F.smooth_l1_loss(coded[own], aims, reduction="sum")
            count += int(own.sum())
        return total / max(1, count)
