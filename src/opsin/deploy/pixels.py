"""Pictures as an exported graph takes them: uint8, whole, or resized and cropped."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from opsin.data import Preprocess, preprocess, read_image
from opsin.data.reader import bands, image_pixels
from opsin.errors import OpsinError

Picture = preprocess.Pixels  # a file, a Pillow image or an array (H, W, C)
Pixels = NDArray[np.uint8]


def cropped(picture: Picture, prepare: Preprocess) -> Pixels:
    """A picture of any size as uint8 pixels of the size that the network takes."""
    return _bytes(prepare.pixels(picture))


def whole(picture: Picture, channels: int) -> Pixels:
    """A picture as uint8 pixels (H, W, channels) of its own size."""
    if isinstance(picture, Image.Image):
        picture = image_pixels(ImageOps.exif_transpose(picture), channels)
    return _bytes(
        bands(picture, channels, "array") if isinstance(picture, np.ndarray) else read_image(picture, channels)
    )


def _bytes(pixels: NDArray[Any]) -> Pixels:
    if pixels.dtype != np.uint8:
        raise OpsinError(
            f"an image of {pixels.dtype}: exported models take 8 bits a channel; convert it, or use the "
            "saved model folder"
        )
    return pixels
