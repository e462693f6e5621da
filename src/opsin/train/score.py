"""How good a network is on validation images."""

from __future__ import annotations

import torch
from torch import nn

from ..data import Batches


def score(model: nn.Module, images: Batches, device: torch.device) -> tuple[float, float]:
    """Accuracy, and mean log loss."""
    model.eval()
    right = loss = 0.0
    with torch.inference_mode():
        for x, y in images.epoch():
            logits = model(x.to(device)).float().cpu()
            right += float((logits.argmax(1) == y.argmax(1)).sum())
            loss -= float((logits.log_softmax(1) * y).sum())
    return right / len(images.labels), loss / len(images.labels)
