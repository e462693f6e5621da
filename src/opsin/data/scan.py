"""One look at every image: its size, its kind, a digest of its pixels, or why it cannot be read."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from opsin.data.dataset import DataError, Dataset, Sample
from opsin.data.reader import decode, header
from opsin.progress import track

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Facts:
    """What one image is. `digest` is equal for two images exactly when their upright pixels are; `error` is empty for
    an image that can be read."""

    format: str
    dtype: str = ""
    height: int = 0
    width: int = 0
    bands: int = 0
    digest: str = ""
    error: str = ""


def scan(data: Dataset) -> list[Facts]:
    """Decodes every image once, on all cores, and remembers the result for every part of the dataset."""
    unknown = {sample.source: sample for sample in data if sample.source not in data.facts}
    found = track(threaded(_facts, unknown.values()), "reading images", total=len(unknown))
    if unknown:
        data.facts.update(zip(unknown, found))
    return [data.facts[sample.source] for sample in data]


def _facts(sample: Sample) -> Facts:
    kind, _ = header(sample)
    try:
        pixels, _ = decode(sample, channels=None)
    except DataError as error:
        return Facts(kind, error=str(error))
    height, width, count = pixels.shape
    return Facts(kind, pixels.dtype.name, height, width, count, digest(pixels))


def digest(pixels: np.ndarray) -> str:
    """A grey picture stored as equal red, green and blue has the same pixels as the grey one."""
    if pixels.shape[2] == 3 and (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        pixels = pixels[..., :1]
    state = hashlib.blake2b(f"{pixels.dtype.name} {pixels.shape}".encode(), digest_size=16)
    state.update(np.ascontiguousarray(pixels).data)
    return state.hexdigest()


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threaded(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results in order, computed on all cores a few items ahead; decoders release Python's lock.

    Unlike `Executor.map` it holds no more than a few results, and stops at once when it is abandoned.
    """
    workers = cores()
    ahead: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > 4 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()
