"""RandAugment (Cubuk, Zoph, Shlens, Le: "RandAugment: Practical automated data augmentation with a reduced search
space", 2019, arXiv:1909.13719) and colour jitter, for 8-bit images of one or three bands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from opsin.data.dataset import DataError

GREY = 128
"""What comes in where a turned or shifted image leaves nothing."""

Operation = Callable[[Image.Image, float], Image.Image]


def randaugment(n: int = 2, m: float = 9) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """`n` of the paper's 14 operations, drawn with equal probability, each at strength `m` of 10 and a random sign.

    At strength 10: shears by 0.3, shifts by 0.45 of the side, turns by 30 degrees, enhances by a factor of 1 ± 0.9,
    posterises to 4 bits, solarises everything (the ranges of AutoAugment, arXiv:1805.09501).
    """
    if not (isinstance(n, int) and n >= 0 and 0 <= m <= 10):
        raise DataError(f"randaugment(n={n!r}, m={m!r}): n must be a whole number, m from 0 to 10")

    def step(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        picture = _picture(image, "randaugment")
        for index in rng.integers(len(OPERATIONS), size=n):
            picture = OPERATIONS[index](picture, m / 10 * (1 if rng.random() < 0.5 else -1))
        return np.atleast_3d(np.array(picture))

    return step


def colour_jitter(
    brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4
) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Brightness, contrast and saturation, in random order, each by a factor drawn from 1 ± its argument (0 to 1)."""
    ranges = (brightness, contrast, saturation)
    if not all(0 <= value <= 1 for value in ranges):
        raise DataError(f"colour_jitter{ranges}: each must be from 0 to 1")
    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

    def step(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        picture = _picture(image, "colour_jitter")
        for i in rng.permutation(3):
            picture = kinds[i](picture).enhance(1 + rng.uniform(-ranges[i], ranges[i]))
        return np.atleast_3d(np.array(picture))

    return step


def _picture(image: np.ndarray, name: str) -> Image.Image:
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        raise DataError(
            f"{name} needs 8-bit images of one or three bands, these are {image.shape[2]} x {image.dtype}; leave it out"
        )
    return Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image))


def _affine(picture: Image.Image, *coefficients: float) -> Image.Image:
    fill = (GREY,) * len(picture.getbands())
    return picture.transform(
        picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=fill
    )


def _enhance(kind: type) -> Operation:
    return lambda picture, s: kind(picture).enhance(1 + 0.9 * s)


OPERATIONS: tuple[Operation, ...] = (
    lambda picture, s: picture,
    lambda picture, s: ImageOps.autocontrast(picture),
    lambda picture, s: ImageOps.equalize(picture),
    lambda picture, s: picture.rotate(30 * s, Image.Resampling.BILINEAR, fillcolor=(GREY,) * len(picture.getbands())),
    lambda picture, s: ImageOps.solarize(picture, round(256 * (1 - abs(s)))),
    lambda picture, s: ImageOps.posterize(picture, 8 - round(4 * abs(s))),
    _enhance(ImageEnhance.Color),
    _enhance(ImageEnhance.Contrast),
    _enhance(ImageEnhance.Brightness),
    _enhance(ImageEnhance.Sharpness),
    lambda picture, s: _affine(picture, 1, 0.3 * s, 0, 0, 1, 0),
    lambda picture, s: _affine(picture, 1, 0, 0, 0.3 * s, 1, 0),
    lambda picture, s: _affine(picture, 1, 0, 0.45 * s * picture.width, 0, 1, 0),
    lambda picture, s: _affine(picture, 1, 0, 0, 0, 1, 0.45 * s * picture.height),
)
