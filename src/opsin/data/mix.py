"""Training-time changes of whole batches: mixup and CutMix, with the labels mixed alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from opsin.data.dataset import DataError


@dataclass(frozen=True)
class Mix:
    """Mixes each image of a batch with another one of it, and their one-hot labels in the same proportion.

    mixup (Zhang et al. 2017, arXiv:1710.09412): `l * x + (1 - l) * x[other]`; CutMix (Yun et al. 2019,
    arXiv:1905.04899): a rectangle of share `1 - l` comes from the other. `l` is drawn from Beta(a, a) once a batch,
    where `a` is `mixup` or `cutmix`; 0 switches that one off, and with both on each batch takes one of them.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if self.mixup < 0 or self.cutmix < 0:
            raise DataError(f"mixup={self.mixup} and cutmix={self.cutmix} must be 0 or more")

    def __call__(
        self, images: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, C, H, W) and class shares (B, K), both float, to the same mixed."""
        kinds = [kind for kind, alpha in ((mixup, self.mixup), (cutmix, self.cutmix)) if alpha]
        if not kinds:
            return images, targets
        kind = kinds[int(rng.integers(len(kinds)))]
        alpha = self.mixup if kind is mixup else self.cutmix
        other = torch.from_numpy(rng.permutation(len(images)))
        return kind(images, targets, other, float(rng.beta(alpha, alpha)), rng)


def mixup(
    images: torch.Tensor, targets: torch.Tensor, other: torch.Tensor, keep: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """`keep` of each image and `1 - keep` of the other."""
    return torch.lerp(images[other], images, keep), torch.lerp(targets[other], targets, keep)


def cutmix(
    images: torch.Tensor, targets: torch.Tensor, other: torch.Tensor, keep: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A rectangle of about `1 - keep` of the area from the other; labels by the area that really came in."""
    height, width = images.shape[-2:]
    side = math.sqrt(1 - keep)
    (top, bottom), (left, right) = (_cut(int(rng.integers(n)), n * side, n) for n in (height, width))
    images = images.clone(memory_format=torch.preserve_format)
    images[..., top:bottom, left:right] = images[other][..., top:bottom, left:right]
    keep = 1 - (bottom - top) * (right - left) / (height * width)
    return images, torch.lerp(targets[other], targets, keep)


def _cut(centre: int, length: float, whole: int) -> tuple[int, int]:
    start = round(centre - length / 2)
    return max(0, start), min(whole, start + round(length))
