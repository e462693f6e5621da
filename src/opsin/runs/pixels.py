"""The pictures of a run: read, checked, split, and cached at the sizes that its networks see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import data
from ..data import Dataset
from .settings import Settings

LARGER = 1.15  # training images are cached this much larger than the input, for crops to choose from


def opened(settings: Settings) -> Dataset:
    """The images of a run with every one in a part: train, val or test."""
    found = data.open(settings.data, group=settings.group, label=settings.label, seed=settings.seed)
    return data.split(found, val=settings.val, test=settings.test, seed=settings.seed)


def assigned(dataset: Dataset) -> dict[str, list[str]]:
    """Names of the images in each part, for the record."""
    return {part: [str(sample) for sample in dataset.part(part)] for part in dataset.splits}


def channels(dataset: Dataset) -> int:
    """3 for grey, colour, palette and alpha; more where the images have more bands."""
    bands = max(fact.bands for fact in data.scan(dataset) if not fact.error)
    return max(3, bands) if bands > 4 else 3


def at(dataset: Dataset, record: dict[str, Any], folder: Path, larger: float = 1.0) -> NDArray[Any]:
    """Cached pixels (N, H, W, C) of the input size, or of one `larger` by a factor."""
    size = tuple(round(side * larger) for side in record["size"])
    return data.cached(
        dataset,
        (size[0], size[1]),
        folder,
        crop_mode=record["crop_mode"],
        interpolation=record["interpolation"],
        channels=record["channels"],
    )


def sample(labels: NDArray[Any], most: int, seed: int) -> NDArray[Any]:
    """Positions of at most so many images, classes in their shares, every class present."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rng, chosen = np.random.default_rng(seed), []
    for label in np.unique(labels):
        where = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(where[: max(2, round(most * len(where) / len(labels)))])
    return np.sort(np.concatenate(chosen))
