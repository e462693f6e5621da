"""Mean and spread of each band, for images that no published statistics fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from opsin.data.dataset import DataError, Dataset
from opsin.data.preprocess import WHITE
from opsin.data.reader import read_image
from opsin.data.scan import threaded
from opsin.progress import track


def band_statistics(data: Dataset, channels: int | None = None) -> dict[str, Any]:
    """Mean and standard deviation of every band over all pixels: `{"mean": [...], "std": [...], "channels": C}`.

    In units where white is 1 (floats as they are), as a preprocessing description wants them. Bands that never change
    get a std of 1.

    Raises:
        DataError: an image cannot be read, or the images do not have the same number of bands.
    """
    count, total, square = 0.0, np.zeros(0), np.zeros(0)
    sums = threaded(lambda sample: _sums(read_image(sample, channels)), data)
    for sample, (number, one, two) in zip(data, track(sums, "band statistics", total=len(data))):
        if count and len(one) != len(total):
            raise DataError(f"{sample} has {len(one)} bands, the images before it {len(total)}; give channels=")
        total, square = (one, two) if not count else (total + one, square + two)
        count += number
    if not count:
        raise DataError(f"{data.name} has no images to take band statistics from")
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    std[std < 1e-8] = 1.0
    return {"mean": mean.tolist(), "std": std.tolist(), "channels": len(mean)}


def _sums(pixels: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Number of pixels, and sum and sum of squares of each band, a stripe at a time so that memory stays bounded."""
    white = WHITE[pixels.dtype.name]
    one, two = np.zeros(pixels.shape[2]), np.zeros(pixels.shape[2])
    for start in range(0, len(pixels), 256):
        stripe = pixels[start : start + 256].reshape(-1, pixels.shape[2]).astype(np.float64) / white
        one += stripe.sum(axis=0)
        two += (stripe**2).sum(axis=0)
    return pixels.shape[0] * pixels.shape[1], one, two
