"""Training from random weights: higher rates, equal for all layers, and stronger augmentation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..settings import TrainSettings


def scratch(flips: Iterable[str] = ("hflip",), crop: bool = True, **changes: Any) -> TrainSettings:
    """The usual ingredients of training from nothing (Wightman et al.: ResNet strikes back, arXiv:2110.00476), with
    AdamW and for less data."""
    crops = ["random_resized_crop(scale=(0.35, 1))"] if crop else []
    chain = [*crops, *flips, "randaugment(n=2, m=6)"]
    settings = TrainSettings(
        epochs=100, lr=1e-3, layer_decay=1.0, augment="|".join(chain), mixup=0.1, cutmix=0.5, ema=0.999, batch_size=64
    )
    return settings.changed(changes)
