"""Going on from published weights, on a few hundred to some ten thousand images, in minutes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..settings import TrainSettings


def finetune(flips: Iterable[str] = ("hflip",), crop: bool = True, **changes: Any) -> TrainSettings:
    """Small rates, smaller for early layers, very small for a head that a probe has fitted (Kumar et al., 2022,
    arXiv:2202.10054); the flips, and with `crop` the crops, that do no harm to the labels."""
    chain = [*(["random_resized_crop(scale=(0.6, 1), ratio=(0.85, 1.18))"] if crop else []), *flips]
    settings = TrainSettings(
        augment="|".join(chain), layer_decay=0.9, head_lr=0.05, freeze_norm=True, ema=0.98, label_smoothing=0.05
    )
    return settings.changed(changes)
