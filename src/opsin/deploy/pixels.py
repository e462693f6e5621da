"""Pictures as an exported graph takes them: uint8, whole, or resized and cropped."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.data import Preprocess, preprocess, read_image
from opsin.data.reader import bands
from opsin.errors import OpsinError

Picture = preprocess.Pixels
Pixels = NDArray[np.uint8]


def cropped(picture: Picture, prepare: Preprocess) -> Pixels:
    """A file or an array (H, W, C) of any size as uint8 pixels of the size that the network takes."""
    return _bytes(prepare.pixels(picture))


def whole(picture: Picture, channels: int) -> Pixels:
    """A file or an array (H, W, C) as uint8 pixels (H, W, channels) of its own size."""
    return _bytes(
        bands(np.asarray(picture), channels, "array")
        if isinstance(picture, np.ndarray)
        else read_image(picture, channels)
    )  # type: ignore[arg-type]


def _bytes(pixels: NDArray[Any]) -> Pixels:
    if pixels.dtype != np.uint8:
        raise OpsinError(
            f"an image of {pixels.dtype}: exported models take 8 bits a channel; convert it, or use the "
            "saved model folder"
        )
    return pixels
