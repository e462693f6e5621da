"""Going on from published weights, on a few hundred to some ten thousand images, in minutes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..settings import TrainSettings


def finetune(flips: Iterable[str] = ("hflip",), crop: bool = True, **changes: Any) -> TrainSettings:
    """One small rate for the later stages and a new classifier; the early stages and the norms stay as they are.

    `flips`, and `crop` for crops: those that do no harm to the labels.
    """
    chain = [*(["random_resized_crop(scale=(0.6, 1), ratio=(0.85, 1.18))"] if crop else []), *flips]
    settings = TrainSettings(augment="|".join(chain), layer_decay=1.0, freeze=8, freeze_norm=True, ema=0.98)
    return settings.changed(changes)
