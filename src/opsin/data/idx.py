"""IDX, the format of MNIST and its kin (LeCun, Cortes, Burges): a magic number, big-endian sizes, then the bytes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from opsin.data.dataset import DataError, shown

IMAGES = "-idx3-ubyte"
LABELS = "-idx1-ubyte"


@lru_cache(maxsize=8)
def images(path: Path) -> np.ndarray:
    """Memory-mapped images, (N, H, W) uint8. Raises `DataError` for a file that is not whole."""
    head = np.fromfile(path, dtype=">i4", count=4)
    if len(head) < 4 or head[0] != 0x803 or path.stat().st_size != 16 + int(np.prod(head[1:].astype(np.int64))):
        raise DataError(f"{shown(path)} is not a whole IDX file of 8-bit images")
    return np.memmap(path, dtype=np.uint8, mode="r", offset=16, shape=tuple(int(n) for n in head[1:]))


def labels(path: Path) -> np.ndarray:
    """Labels, (N,) uint8. Raises `DataError` for a file that is not whole."""
    data = np.fromfile(path, dtype=np.uint8)
    head = data[:8].view(">i4")
    if len(head) < 2 or head[0] != 0x801 or head[1] != len(data) - 8:
        raise DataError(f"{shown(path)} is not a whole IDX file of 8-bit labels")
    return data[8:]
