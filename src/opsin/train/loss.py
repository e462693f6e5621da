"""Cross entropy against shares of classes, smoothed and weighted."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IMBALANCE = 5.0
"""From this ratio of the largest to the smallest class on, "auto" weights the classes."""


def soft_cross_entropy(
    logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Weighted mean of `-y * log softmax(logits)`: weights change shares, not the size of the loss.

    Args:
        logits: (B, K). targets: (B, K) shares of classes that sum to 1. weights: (K,), none for equal ones.
        smoothing: share of each target that is spread over all classes.
    """
    shares = torch.lerp(targets, torch.full_like(targets, 1 / targets.shape[1]), smoothing)
    shares = shares if weights is None else shares * weights
    return -(shares * logits.float().log_softmax(1)).sum() / shares.sum()


def class_weights(labels: NDArray[np.int64], classes: int, balance: str) -> Tensor | None:
    """Inverse roots of class frequencies with mean 1 over the images, (K,); none where `balance` wants none."""
    counts = np.bincount(labels, minlength=classes)
    uneven = counts.max() > IMBALANCE * max(1, counts[counts > 0].min())
    if balance not in ("weights", "auto") or (balance == "auto" and not uneven):
        return None
    root = 1 / np.sqrt(np.maximum(counts, 1))
    return torch.tensor(root / (root * counts).sum() * counts.sum(), dtype=torch.float32)
