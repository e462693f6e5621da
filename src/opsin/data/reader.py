"""Files to pixels: every Pillow format, EXIF orientation, alpha, 16-bit, TIFF and NumPy with any number of bands."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from PIL import Image, UnidentifiedImageError

from opsin.data import idx
from opsin.data.dataset import DataError, Sample

Source = str | os.PathLike[str] | Sample

MAX_PIXELS = 2**29
"""Largest image that is decoded (1.6 GB as 8-bit RGB); the environment variable OPSIN_MAX_PIXELS replaces it."""

# These run other programs, hold no pixels, or are films.
REFUSED = {"EPS", "PDF", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
COMMON = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")

_bomb_check = threading.Lock()


@lru_cache(maxsize=1)
def extensions() -> frozenset[str]:
    """File name endings (lower case, with the dot) that are read as images."""
    Image.init()
    readable = {e for e, name in Image.registered_extensions().items() if name in Image.OPEN and name not in REFUSED}
    return frozenset(readable | {".npy"})


def read_image(source: Source, channels: int | None = 3) -> np.ndarray:
    """Pixels of one image, (H, W, C), as uint8, uint16 or float32, upright.

    Integers span their type (255 or 65,535 is white), floats are taken as they are. `channels` 1 gives grey, 3 gives
    RGB, any other number must be the number of bands in the file, None keeps the bands of the file. Transparent
    pixels are laid on white, as viewers show them. Pillow reads 16-bit colour PNGs at 8 bits.

    Raises:
        DataError: the file is missing, broken, truncated, not an image, larger than the limit, or has other bands.
    """
    return decode(source, channels)[0]


def decode(
    source: Source, channels: int | None = 3, at_least: tuple[int, int] | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels as `read_image` gives them, and the size (H, W) that the whole image has.

    With `at_least`, a JPEG may come smaller than it is, but with no side below the given (H, W): its decoder then
    does the first halvings itself, which saves most of the time and memory of a large photograph.
    """
    sample = source if isinstance(source, Sample) else Sample(Path(source), 0)
    try:
        if sample.path.name.endswith(idx.IMAGES):
            pixels = _idx(sample)
        elif sample.path.suffix.lower() == ".npy":
            pixels = _npy(sample)
        else:
            return _file(sample, channels, at_least)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{sample} does not exist") from None
    except MemoryError:
        raise DataError(f"{sample} needs more memory than there is; make the image smaller") from None
    except UnidentifiedImageError:
        raise DataError(f"{sample} is not an image in a format that can be read") from None
    except Exception as error:  # decoders fail in as many ways as files can be broken
        raise DataError(f"{sample} cannot be read: {error or type(error).__name__}") from error
    return bands(pixels, channels, sample), pixels.shape[:2]


def header(source: Source) -> tuple[str, str]:
    """Format name ("JPEG", "NPY", ...) and pixel type ("uint8", "uint16", "float32") without decoding the pixels."""
    sample = source if isinstance(source, Sample) else Sample(Path(source), 0)
    if sample.path.name.endswith(idx.IMAGES):
        return "IDX", "uint8"
    try:
        if sample.path.suffix.lower() == ".npy":
            return "NPY", _pixel_type(np.load(sample.path, mmap_mode="r", allow_pickle=False), sample).name
        with _bytes(sample) as data, _image(data, sample) as image:
            if _wants_tifffile(image):
                return "TIFF", _pixel_type(_tiff(data, sample), sample).name
            return image.format or "", {"I": "uint16", "F": "float32"}.get(image.mode.partition(";")[0], "uint8")
    except (OSError, ValueError):
        return "unreadable", "uint8"  # decoding it gives the full error


def bands(pixels: np.ndarray, channels: int | None, name: object) -> np.ndarray:
    """An (H, W, C) array with the asked number of channels: grey is repeated, RGB is weighted to grey (ITU-R 601)."""
    have = pixels.shape[2]
    if channels is None or channels == have:
        return pixels
    if have == 1 and channels == 3:
        three = np.empty((*pixels.shape[:2], 3), pixels.dtype)
        for i in range(3):  # several times as fast as one broadcast assignment
            three[..., i] = pixels[..., 0]
        return three
    if have == 3 and channels == 1:
        grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return (grey if pixels.dtype == np.float32 else np.rint(grey)).astype(pixels.dtype)[..., None]
    raise DataError(f"{name} has {have} bands and {channels} channels were asked; ask for channels={have}")


def limit_pixels(height: int, width: int, name: object) -> None:
    """Refuses what would fill the memory: a small file can claim any size."""
    try:
        limit = int(os.environ.get("OPSIN_MAX_PIXELS", MAX_PIXELS))
    except ValueError:
        raise DataError(f"OPSIN_MAX_PIXELS={os.environ['OPSIN_MAX_PIXELS']!r} is not a whole number") from None
    if height * width > limit:
        raise DataError(
            f"{name} is {width} x {height} = {width * height:,} pixels, the limit is {limit:,}; "
            f"if you trust the file, set the environment variable OPSIN_MAX_PIXELS={height * width}"
        )


@contextmanager
def _bytes(sample: Sample) -> Iterator[Any]:
    if sample.member is not None:
        yield io.BytesIO(_archive(sample.path).read(sample.member))
    else:
        with open(sample.path, "rb") as file:
            yield file


@lru_cache(maxsize=4)
def _archive(path: Path) -> ZipFile:
    return ZipFile(path)


def _image(data: Any, name: object) -> Image.Image:
    # Pillow's own limit is a global of the process: lifted for the moment of opening, then ours is applied.
    with _bomb_check:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(data, formats=_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = theirs
    limit_pixels(image.height, image.width, name)
    return image


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return COMMON + tuple(name for name in Image.OPEN if name not in REFUSED and name not in COMMON)


def _file(sample: Sample, channels: int | None, at_least: tuple[int, int] | None) -> tuple[np.ndarray, tuple[int, int]]:
    with _bytes(sample) as data:
        try:
            image = _image(data, sample)
        except UnidentifiedImageError:
            if sample.path.suffix.lower() not in (".tif", ".tiff"):
                raise
            pixels = _tiff(data, sample)
            return bands(pixels, channels, sample), pixels.shape[:2]
        with image:
            if _wants_tifffile(image):
                pixels = _tiff(data, sample)
                return bands(pixels, channels, sample), pixels.shape[:2]
            turn = image.getexif().get(0x0112, 1)
            sideways = turn in (5, 6, 7, 8)
            size = image.size if sideways else image.size[::-1]
            want = at_least[::-1] if at_least and sideways else at_least
            fast = _jpeg(data, image, channels, want) if image.format == "JPEG" else None
            if fast is None and image.format == "JPEG" and want:
                image.draft(None, (want[1], want[0]))
            pixels = _pillow(image, channels, sample) if fast is None else fast
    return bands(_upright(pixels, turn), channels, sample), size


def _jpeg(data: Any, image: Image.Image, channels: int | None, at_least: tuple[int, int] | None) -> np.ndarray | None:
    """The faster decoder, where it is installed and can; None leaves the work (or the error) to Pillow."""
    if image.mode not in ("L", "RGB"):
        return None
    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return None
    data.seek(0)
    grey = image.mode == "L" or channels == 1
    halve = 8 if at_least else 1  # its other factors are slower than decoding everything
    while halve > 1 and at_least and (image.height < halve * at_least[0] or image.width < halve * at_least[1]):
        halve //= 2
    height, width = -(-image.height // halve), -(-image.width // halve)
    try:
        pixels: np.ndarray = decode_jpeg(data.read(), "GRAY" if grey else "RGB", min_height=height, min_width=width)
        return pixels
    except ValueError:
        data.seek(0)
        return None


def image_pixels(image: Image.Image, channels: int | None = 3, name: object = "image") -> np.ndarray:
    """An open Pillow image as `read_image` gives it, (H, W, C), except that it is not turned upright."""
    return bands(_pillow(image, channels, name), channels, name)


def _pillow(image: Image.Image, channels: int | None, name: object) -> np.ndarray:
    image.load()
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise DataError(
                f"{name} holds 32-bit integers from {values.min()} to {values.max()}; save it as 16-bit or as floats"
            )
        return values.astype(np.uint16)[..., None]
    if image.mode == "F":
        return np.asarray(image, dtype=np.float32)[..., None]
    if channels is not None and channels > 3:
        return np.atleast_3d(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    grey = image.mode in ("1", "L") or channels == 1
    return np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB")))


def _upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Undoes the EXIF orientation (CIPA DC-008, tag 0x0112: 1 upright, 2-8 mirrored and turned)."""
    if turn in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    down, across = turn in (3, 4, 7, 8), turn in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if down else 1, :: -1 if across else 1])


def _wants_tifffile(image: Image.Image) -> bool:
    """Pillow reads TIFFs of one or of 8-bit bands; others it cuts to 8 bits or cannot hold."""
    if image.format != "TIFF":
        return False
    bits = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
    count = image.tag_v2.get(277, 1)  # type: ignore[attr-defined]
    return bool(count > 1 and (max(bits) > 8 or count > 4))


def _tiff(data: Any, name: object) -> np.ndarray:
    try:
        import tifffile
    except ImportError:
        raise DataError(f'{name} needs the TIFF reader: pip install "opsin[tiff]"') from None
    data.seek(0)
    with tifffile.TiffFile(data) as tiff:
        page = tiff.series[0]
        planes = dict(zip(page.axes, page.shape))
        limit_pixels(planes.get("Y", 1), planes.get("X", 1), name)
        pixels = page.asarray()
    axes = page.axes
    rest = [i for i, axis in enumerate(axes) if axis not in "YX"]
    if "Y" not in axes or "X" not in axes or sum(pixels.shape[i] > 1 for i in rest) > 1:
        raise DataError(f"{name} has axes {axes} {pixels.shape}; one image of any number of bands is needed")
    order = [axes.index("Y"), axes.index("X"), *rest]
    pixels = pixels.transpose(order)
    return _typed(pixels.reshape(*pixels.shape[:2], -1), name)


def _npy(sample: Sample) -> np.ndarray:
    pixels = np.load(sample.path, mmap_mode="r", allow_pickle=False)
    if pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise DataError(f"{sample} has shape {pixels.shape}; (H, W) or (H, W, C) is needed")
    limit_pixels(pixels.shape[0], pixels.shape[1], sample)
    return _typed(np.atleast_3d(pixels), sample)


def _pixel_type(pixels: np.ndarray, name: object) -> np.dtype:
    """The type that pixels are given out in; reads no pixel."""
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels.dtype
    if pixels.dtype == bool:
        return np.dtype(np.uint8)
    if pixels.dtype.kind == "f":
        return np.dtype(np.float32)
    raise DataError(f"{name} holds {pixels.dtype}; save it as uint8, uint16 or floats")


def _typed(pixels: np.ndarray, name: object) -> np.ndarray:
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    pixels = np.ascontiguousarray(pixels, dtype=_pixel_type(pixels, name).newbyteorder("="))
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise DataError(f"{name} holds values that are not finite; replace them before training")
    return pixels


def _idx(sample: Sample) -> np.ndarray:
    images = idx.images(sample.path)
    row = int(sample.member or 0)
    if not 0 <= row < len(images):
        raise DataError(f"{sample.path} holds {len(images)} images, there is no number {row}")
    return np.array(images[row])[..., None]
