"""Going on from published weights, on a few hundred to some ten thousand images, in minutes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..settings import TrainSettings


def finetune(flips: Iterable[str] = ("hflip",), **changes: Any) -> TrainSettings:
    """Small rates, smaller for early layers; crops that keep most of the picture, and the flips that do no harm."""
    chain = ["random_resized_crop(scale=(0.6, 1), ratio=(0.85, 1.18))", *flips]
    return TrainSettings(augment="|".join(chain)).changed(changes)
