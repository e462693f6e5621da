"""Training-time changes of one image, written as a chain of calls:
`"random_resized_crop(scale=(0.5, 1))|hflip|randaugment(n=2, m=9)"`.

A step takes an (H, W, C) array and a random generator and gives an array; the whole chain ends at the asked size.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from opsin.data.dataset import DataError
from opsin.data.preprocess import resize
from opsin.data.randaugment import colour_jitter, randaugment

Step = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def random_resized_crop(
    size: tuple[int, int],
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    interpolation: str = "bicubic",
) -> Step:
    """A part of random area (share of the image) and aspect ratio (log-uniform), resized (GoogLeNet, arXiv:1409.4842).

    After ten parts that do not fit, the largest centred part of a legal ratio is taken.
    """
    _ordered("scale", scale, 1.0)
    _ordered("ratio", ratio)

    def step(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        top, left, height, width = _part(image, scale, ratio, rng)
        part = np.ascontiguousarray(image[top : top + height, left : left + width])
        return resize(part, size, interpolation, exact=False)

    return step


def random_crop(size: tuple[int, int], pad: int = 0) -> Step:
    """A window of the asked size anywhere in the image, which is first padded by `pad` mirrored pixels a side."""

    def step(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        down, across = (max(pad, -(-(want - have) // 2)) for want, have in zip(size, image.shape))
        if down or across:
            image = np.pad(image, ((down, down), (across, across), (0, 0)), mode="symmetric")
        top, left = (int(rng.integers(have - want + 1)) for want, have in zip(size, image.shape))
        return image[top : top + size[0], left : left + size[1]]

    return step


def center_crop(size: tuple[int, int]) -> Step:
    """The middle of the image; the images must be as large as the size."""

    def step(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        found: np.ndarray = middle(image[None], size)[0]
        return found

    return step


def hflip(p: float = 0.5) -> Step:
    """Left and right swapped with probability `p`."""
    return lambda image, rng: image[:, ::-1] if rng.random() < p else image


def vflip(p: float = 0.5) -> Step:
    """Top and bottom swapped with probability `p`: for pictures without an up, as from above or a microscope."""
    return lambda image, rng: image[::-1] if rng.random() < p else image


def rot90() -> Step:
    """One of the four quarter turns; an oblong image is turned by none or a half."""

    def step(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        turns = int(rng.integers(4))
        return np.rot90(image, turns if image.shape[0] == image.shape[1] else turns // 2 * 2)

    return step


def stacked(size: tuple[int, int]) -> Step:
    """One of the pictures of that size that the image holds, one below the other: looks that were made beforehand."""

    def step(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        first = int(rng.integers(image.shape[0] // size[0])) * size[0]
        return image[first : first + size[0]]

    return step


def random_erasing(
    p: float = 0.25, area: tuple[float, float] = (0.02, 0.33), ratio: tuple[float, float] = (0.3, 3.3)
) -> Step:
    """A rectangle of random share and aspect ratio is filled with noise, with probability `p` (arXiv:1708.04896)."""
    _ordered("area", area, 1.0)
    _ordered("ratio", ratio)

    def step(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= p:
            return image
        top, left, height, width = _part(image, area, ratio, rng)
        image = image.copy()
        hole = image[top : top + height, left : left + width]
        if image.dtype == np.float32:
            hole[:] = rng.normal(image.mean(), image.std(), hole.shape)
        else:
            hole[:] = rng.integers(0, np.iinfo(image.dtype).max, hole.shape, dtype=image.dtype, endpoint=True)
        return image

    return step


STEPS: dict[str, Callable[..., Step]] = {
    maker.__name__: maker
    for maker in (
        *(random_resized_crop, random_crop, center_crop, hflip, vflip, rot90),
        *(stacked, colour_jitter, randaugment, random_erasing),
    )
}


@dataclass(frozen=True)
class Augment:
    """A chain of steps that ends at `size` (H, W); `text` is the chain as it was written."""

    text: str
    size: tuple[int, int]
    steps: tuple[Step, ...]

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An (H, W, C) array to one of `size`."""
        for step in self.steps:
            image = step(image, rng)
        return image if image.shape[:2] == self.size else resize(np.ascontiguousarray(image), self.size, exact=False)


def augmentation(text: str, size: tuple[int, int]) -> Augment:
    """Reads a chain of calls; only names of `STEPS` and literal arguments are understood, nothing is executed.

    Crops take `size` by themselves. An empty text only resizes.

    Raises:
        DataError: not a chain of calls, an unknown step (near names are suggested), or arguments that it does not take.
    """
    try:
        nodes = _chain(ast.parse(text.strip(), mode="eval").body) if text.strip() else []
    except SyntaxError as error:
        raise DataError(
            f"augmentation {text!r} cannot be read at column {error.offset}; write step(key=value)|step"
        ) from None
    return Augment(text, size, tuple(_step(node, size) for node in nodes))


def middle(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle (H, W) of images (N, h, w, C), a view; `DataError` when they are smaller."""
    height, width = images.shape[1:3]
    if height < size[0] or width < size[1]:
        raise DataError(f"images of {height} x {width} cannot be cropped to {size[0]} x {size[1]}")
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
    return images[:, top : top + size[0], left : left + size[1]]


def _chain(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _chain(node.left) + _chain(node.right)
    return [node]


def _step(node: ast.expr, size: tuple[int, int]) -> Step:
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name):
        raise DataError(f"{ast.unparse(node)!r} is not the name of a step")
    name = call.func.id
    maker = STEPS.get(name)
    if maker is None:
        near = difflib.get_close_matches(name, STEPS, 1)
        raise DataError(
            f"no augmentation {name!r}; {f'did you mean {near[0]}? ' if near else ''}there are {', '.join(STEPS)}"
        )
    takes = inspect.signature(maker)
    sized: dict[str, Any] = {"size": size} if "size" in takes.parameters else {}
    try:
        args = [ast.literal_eval(value) for value in call.args]
        keys = {key.arg: ast.literal_eval(key.value) for key in call.keywords if key.arg}
        takes.bind(*args, **keys) if not sized else takes.bind(size, *args, **keys)
        return maker(*sized.values(), *args, **keys)
    except DataError:
        raise
    except (TypeError, ValueError) as error:
        known = ", ".join(f"{p.name}={p.default!r}" for p in takes.parameters.values() if p.name != "size")
        raise DataError(f"{ast.unparse(node)}: {error}; {name} takes {known or 'nothing'}") from None


def _part(
    image: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a rectangle of random area and aspect ratio."""
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    aspect = min(max(width / height, ratio[0]), ratio[1])
    h, w = min(height, max(1, round(width / aspect))), min(width, max(1, round(height * aspect)))
    return (height - h) // 2, (width - w) // 2, h, w


def _ordered(name: str, bounds: tuple[float, float], most: float = math.inf) -> None:
    if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] <= most:
        raise DataError(f"{name}={bounds!r} must be (low, high) with 0 < low <= high" + (" <= 1" if most == 1 else ""))
