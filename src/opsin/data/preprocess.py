"""Pixels to the tensor that a network was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from opsin.data.dataset import DataError
from opsin.data.reader import Source, bands, decode, image_pixels

FILTERS = {name.lower(): Image.Resampling[name] for name in Image.Resampling.__members__}
MODES = ("center", "squash", "border")
WHITE = {"uint8": 255.0, "uint16": 65535.0, "float16": 1.0, "float32": 1.0}
"""What counts as 1.0 before the mean is taken off; floats are taken as they are."""

GAP = 2.0
"""The fast path lets the JPEG decoder halve an image while both sides stay this many times what is needed."""

WHOLE = 2**24
"""An exact resize computes the whole image and then crops; above this many pixels, only what the crop needs."""

Pixels = Source | np.ndarray | Image.Image


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop, scale to [0, 1], subtract `mean`, divide by `std`: timm's meaning of the terms.

    - "center": the short side is resized to `size / crop_pct`, the middle is cut out;
    - "squash": both sides are resized to `size / crop_pct`, the middle is cut out;
    - "border": the long side is resized to `size / crop_pct`, what is missing is filled with the mean.

    With `exact` the 8-bit pixels are timm's to the bit (images that are very long and thin: to 2 levels in 255).
    Without it a large JPEG is shrunk by its decoder first and only the crop is computed, which is several times as fast
    (`docs/data.md` has the measured difference). It is no part of the description: `to_dict()` leaves it out.
    """

    size: tuple[int, int]
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    channels: int = 3
    exact: bool = True

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise DataError(f"size {self.size!r} is not (height, width) in pixels")
        if not self.crop_pct > 0:
            raise DataError(f"crop_pct {self.crop_pct!r} must be above 0")
        if self.crop_mode not in MODES:
            raise DataError(f"crop_mode {self.crop_mode!r} is none of {', '.join(MODES)}")
        if self.interpolation not in FILTERS:
            raise DataError(f"interpolation {self.interpolation!r} is none of {', '.join(FILTERS)}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise DataError(
                f"{len(self.mean)} means and {len(self.std)} stds for {self.channels} channels; give one each"
            )
        if not all(value > 0 for value in self.std):
            raise DataError(f"std {self.std!r} must be above 0")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any], *, exact: bool = True) -> Preprocess:
        """From the description that travels with a model. Raises `DataError` for unknown or missing keys."""
        known = set(cls.__dataclass_fields__) - {"exact"}
        if wrong := (set(settings) - known) | ({"size"} - set(settings)):
            raise DataError(f"preprocessing needs size and knows {', '.join(sorted(known))}; check {', '.join(wrong)}")
        lists = {name: tuple(value) for name, value in settings.items() if isinstance(value, (list, tuple))}
        return cls(**{**settings, **lists}, exact=exact)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `Preprocess.from_dict` takes it back."""
        settings = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        del settings["exact"]
        return settings

    @property
    def resized(self) -> tuple[int, int]:
        """`size / crop_pct`, the (H, W) that is resized to before the crop."""
        return math.floor(self.size[0] / self.crop_pct), math.floor(self.size[1] / self.crop_pct)

    def __call__(self, image: Pixels) -> torch.Tensor:
        """One image (a file, a sample, an (H, W, C) or (H, W) array, or a PIL image) to (C, H, W) float32."""
        pixels = self.pixels(image)
        scale, shift = _affine(self.mean, self.std, WHITE[pixels.dtype.name])
        planes = torch.from_numpy(_computable(pixels)).permute(2, 0, 1).contiguous()  # cheaper before there are floats
        return (planes * scale).add_(shift)

    def normalise(self, batch: np.ndarray) -> torch.Tensor:
        """Cropped pixels (B, H, W, C) to (B, C, H, W) float32 in channels_last memory."""
        scale, shift = _affine(self.mean, self.std, WHITE[batch.dtype.name])
        maps = torch.from_numpy(_computable(batch)).permute(0, 3, 1, 2)
        return (maps * scale).add_(shift)

    def pixels(self, image: Pixels) -> np.ndarray:
        """The resized and cropped image before it is normalised, (H, W, C), in the type that it was read in."""
        array, whole = self._read(image)
        resized = self._target(*whole)
        (top, bottom, above), (left, right, before) = map(_window, resized, self.size)
        if resized[0] * resized[1] < WHOLE:
            seen = resize(array, resized, self.interpolation, exact=self.exact)[top:bottom, left:right]
        else:
            y, x = array.shape[0] / resized[0], array.shape[1] / resized[1]
            seen = resize(
                array, (bottom - top, right - left), self.interpolation, (left * x, top * y, right * x, bottom * y)
            )
        seen = bands(seen, self.channels, "image")
        if seen.shape[:2] == self.size:
            return seen
        white = WHITE[array.dtype.name]
        fill = [round(white * m) if white > 1 else m for m in self.mean] if self.crop_mode == "border" else 0
        out = np.empty((*self.size, self.channels), dtype=seen.dtype)
        out[:] = fill
        out[above : above + seen.shape[0], before : before + seen.shape[1]] = seen
        return out

    def _read(self, image: Pixels) -> tuple[np.ndarray, tuple[int, int]]:
        if isinstance(image, Image.Image):
            image = image_pixels(ImageOps.exif_transpose(image), self.channels)
        if isinstance(image, np.ndarray):
            if image.ndim not in (2, 3) or 0 in image.shape or image.dtype.name not in WHITE:
                raise DataError(f"array {image.shape} of {image.dtype} is not (H, W, C) of {', '.join(WHITE)}")
            array = bands(np.atleast_3d(image), self.channels, "array")
            return array, array.shape[:2]
        wanted = None if self.exact else (math.ceil(GAP * self.resized[0]), math.ceil(GAP * self.resized[1]))
        grey_stays = None if self.channels == 3 else self.channels  # repeated after the resize, with the same result
        return decode(image, grey_stays, wanted)

    def _target(self, height: int, width: int) -> tuple[int, int]:
        """The size that the whole image would be resized to."""
        tall, wide = self.resized
        if self.crop_mode == "squash":
            return tall, wide
        if self.crop_mode == "center" and tall == wide:
            short = min(height, width)
            return int(tall * height / short), int(wide * width / short)
        ratio = (max if self.crop_mode == "border" else min)(height / tall, width / wide)
        return max(1, round(height / ratio)), max(1, round(width / ratio))


@lru_cache
def _affine(mean: tuple[float, ...], std: tuple[float, ...], white: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(x / white - mean) / std as one multiplication and one addition."""
    m, s = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
    return (1 / (white * s)).float(), (-m / s).float()


def _window(resized: int, size: int) -> tuple[int, int, int]:
    """Start and end of what is seen of a resized side, and how much is missing before it."""
    if size > resized:
        return 0, resized, (size - resized) // 2
    start = round((resized - size) / 2)
    return start, start + size, 0


def _computable(pixels: np.ndarray) -> np.ndarray:
    """Torch has no arithmetic for uint16, and wants memory that may be written."""
    return pixels.astype(np.float32) if pixels.dtype == np.uint16 else np.require(pixels, requirements="W")


def resize(
    pixels: np.ndarray,
    size: tuple[int, int],
    interpolation: str = "bicubic",
    box: tuple[float, float, float, float] | None = None,
    *,
    exact: bool = True,
) -> np.ndarray:
    """An (H, W, C) array resampled to `size` with antialiasing, as Pillow does it.

    Args:
        box: (left, top, right, bottom) in pixels of the source, with fractions; only what it needs is computed.
        exact: equal to Pillow; otherwise torch's vectorised resize is used where it does the same (8-bit, bilinear
            or bicubic), which is several times as fast and one level in 255 off in about one pixel in a thousand.
    """
    if not exact and box is None and pixels.dtype == np.uint8 and interpolation in ("bilinear", "bicubic"):
        maps = torch.from_numpy(_computable(pixels)).permute(2, 0, 1)[None]
        maps = torch.nn.functional.interpolate(maps, size=size, mode=interpolation, antialias=True)
        return np.asarray(maps[0].permute(1, 2, 0))
    kernel = FILTERS[interpolation]
    size = size[::-1]
    if pixels.dtype == np.uint8 and pixels.shape[2] in (1, 3):
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        return np.atleast_3d(np.array(image.resize(size, kernel, box)))
    planes = [Image.fromarray(np.ascontiguousarray(pixels[..., i], dtype=np.float32)) for i in range(pixels.shape[2])]
    out = np.stack([np.asarray(plane.resize(size, kernel, box)) for plane in planes], axis=2)
    if pixels.dtype == np.float32:
        return out
    return np.asarray(np.rint(out).clip(0, np.iinfo(pixels.dtype).max), dtype=pixels.dtype)
