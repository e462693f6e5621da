"""The preprocessing record carried out with Pillow: what an exported graph must agree with."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.errors import OpsinError

Pixels = NDArray[np.uint8]
Picture = str | os.PathLike[str] | Pixels
MODES = {"bicubic": "cubic", "bilinear": "linear"}  # Pillow's filters and their names in ONNX


def opened(picture: Picture, channels: int) -> Pixels:
    """A file, or an array (H, W, C), as uint8 pixels (H, W, C)."""
    if isinstance(picture, str | os.PathLike):
        from opsin.data.reader import read_image

        picture = read_image(Path(picture), channels)
    pixels = np.asarray(picture)
    if pixels.ndim != 3 or pixels.shape[2] != channels or pixels.dtype != np.uint8 or not pixels.size:
        raise OpsinError(f"an image of {pixels.dtype} {pixels.shape}: this model takes uint8 (H, W, {channels})")
    return pixels


def checked(preprocessing: dict[str, Any]) -> dict[str, Any]:
    """The record with its defaults filled in; one that cannot be carried out here raises OpsinError."""
    size: Any = preprocessing.get("size")
    whole = isinstance(size, list | tuple) and [type(n) for n in size] == [int, int]
    if not whole or not 0 < min(size) <= max(size) < 9999:
        raise OpsinError(f"preprocessing size {size!r}: give [height, width] in pixels")
    record = {"crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic", "channels": 3, **preprocessing}
    for key in ("mean", "std"):
        if len(record.get(key) or ()) != record["channels"]:
            raise OpsinError(f"preprocessing {key} {record.get(key)!r}: give {record['channels']}, one a channel")
    if record["crop_mode"] not in ("center", "squash") or record["interpolation"] not in MODES:
        raise OpsinError(f"crop mode {record['crop_mode']!r} with {record['interpolation']!r} interpolation cannot be "
                         'exported: use "center" or "squash" with "bilinear" or "bicubic"')
    if record["crop_mode"] == "center" and size[0] != size[1]:
        raise OpsinError(f'a centre crop to {list(size)} is not square: use crop mode "squash"')
    return record


def cropped(pixels: Pixels, record: dict[str, Any]) -> Pixels:
    """Pixels (H, W, C) of any size resized and cropped to the record's size, still uint8."""
    (h, w), size = pixels.shape[:2], record["size"]
    if record["crop_mode"] == "squash":
        return resized(pixels, size[0], size[1], record["interpolation"])
    side = short_side(record)
    pixels = resized(pixels, side * h // min(h, w), side * w // min(h, w), record["interpolation"])
    top, left = (round((have - want) / 2) for have, want in zip(pixels.shape[:2], size))
    return pixels[top : top + size[0], left : left + size[1]]


def short_side(record: dict[str, Any]) -> int:
    return int(record["size"][0] / record["crop_pct"])


def resized(pixels: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    from PIL import Image

    method = Image.Resampling[interpolation.upper()]
    if pixels.shape[2] == 3:
        return np.asarray(Image.fromarray(pixels).resize((width, height), method))
    bands = [Image.fromarray(np.ascontiguousarray(pixels[..., c])) for c in range(pixels.shape[2])]
    return np.stack([np.asarray(band.resize((width, height), method)) for band in bands], -1)
