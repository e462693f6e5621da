"""Decoded and resized images on disk, memory-mapped: after the first pass nothing is decoded again."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from opsin.data.dataset import DataError, Dataset, Sample, shown
from opsin.data.preprocess import Preprocess
from opsin.data.reader import header
from opsin.data.scan import threaded
from opsin.progress import track

VERSION = 1
"""Raised when the same settings come to give other pixels."""

WIDER = ("uint8", "uint16", "float32")


def cached(
    data: Dataset,
    size: int | tuple[int, int],
    folder: str | os.PathLike[str],
    *,
    crop_mode: str = "center",
    interpolation: str = "bicubic",
    channels: int = 3,
) -> np.ndarray:
    """All images of a dataset, decoded, resized to `size` and cropped, as a read-only memory-mapped (N, H, W, C) array.

    It is uint8; uint16 or float32 if one of the images is. With `size=preprocess.resized` the middle of each image is
    what `preprocess` crops (of an image that is not square, to half a pixel).

    The file in `folder` is named by the bytes of all images and the settings, so it cannot be stale. A build that was
    interrupted goes on where it stopped, and two builds at once do no harm.

    Raises:
        DataError: an image that cannot be read, no room on the disk, or a folder that cannot be written.
    """
    height, width = (size, size) if isinstance(size, int) else size
    neutral = {"mean": (0.0,) * channels, "std": (1.0,) * channels, "channels": channels}
    settings = {"size": (height, width), "crop_pct": 1.0, "crop_mode": crop_mode, "interpolation": interpolation}
    preprocess = Preprocess.from_dict({**settings, **neutral}, exact=False)
    dtype = max((header(sample)[1] for sample in data), key=WIDER.index, default="uint8")
    path = Path(folder) / f"images-{_key(data, preprocess, dtype)}.npy"
    if not path.is_file():
        _build(data, preprocess, np.dtype(dtype), path)
    images: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return images


def _key(data: Dataset, preprocess: Preprocess, dtype: str) -> str:
    try:
        decoder = f"simplejpeg {importlib.metadata.version('simplejpeg')}"
    except importlib.metadata.PackageNotFoundError:
        decoder = "pillow"
    state = hashlib.blake2b(digest_size=16)
    state.update(json.dumps([VERSION, decoder, dtype, preprocess.to_dict()], sort_keys=True).encode())
    files: dict[Path, bytes] = {}
    for path, found in zip(paths := list(dict.fromkeys(s.path for s in data)), threaded(_content, paths)):
        files[path] = found
    for sample in data:
        state.update(files[sample.path] + repr(sample.member).encode())
    return state.hexdigest()


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).digest()
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror}") from error


def _build(data: Dataset, preprocess: Preprocess, dtype: np.dtype, path: Path) -> None:
    """Rows are appended in order, so the length of the unfinished file says what is done. Whoever writes a row writes
    the same bytes at the same place, so no lock is needed."""
    shape = (len(data), *preprocess.size, preprocess.channels)
    head = _head(shape, dtype)
    row = int(np.prod(shape[1:])) * dtype.itemsize
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.exists() else 0
        free = shutil.disk_usage(path.parent).free
        if (need := len(head) + row * len(data) - have) > free:
            raise DataError(_no_room(path, need, free))
        done = max(0, have - len(head)) // row
        todo = [data[i] for i in range(done, len(data))]
        images = threaded(partial(_row, preprocess=preprocess, dtype=dtype), todo)
        with open(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            file.write(head)
            file.seek(len(head) + done * row)
            for image in track(images, "decoding images", total=len(todo)):
                file.write(image)
            file.flush()
            os.fsync(file.fileno())
        if part.exists():
            os.replace(part, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(_no_room(path, row * len(data), shutil.disk_usage(path.parent).free)) from error
        if not path.is_file():
            raise DataError(f"cannot write {shown(path)}: {error.strerror}; give a folder you may write to") from error


def _row(sample: Sample, preprocess: Preprocess, dtype: np.dtype) -> bytes:
    return as_type(preprocess.pixels(sample), dtype).tobytes()


def as_type(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Pixels of a narrower type in a wider one, white staying white."""
    if pixels.dtype == dtype:
        return pixels
    if dtype == np.uint16:
        return pixels.astype(np.uint16) * 257
    return pixels.astype(np.float32) / (255 if pixels.dtype == np.uint8 else 65535)


def _head(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    stream = io.BytesIO()
    fields: dict[str, Any] = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def _no_room(path: Path, need: int, free: int) -> str:
    return (
        f"decoded images need {need / 1e6:,.0f} MB in {shown(path.parent)}, {free / 1e6:,.0f} MB are free; "
        "free some, give another folder, or take a smaller size"
    )
