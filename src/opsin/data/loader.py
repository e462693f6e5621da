"""Batches out of cached images: what step `s` of epoch `e` sees depends on `(seed, e, s)` alone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from opsin.data.augment import Augment, middle
from opsin.data.dataset import DataError
from opsin.data.mix import Mix
from opsin.data.preprocess import Preprocess

Batch = tuple[torch.Tensor, torch.Tensor]

ORDER, IMAGE, MIX = range(3)
"""Separate streams of random numbers, so that one choice never shifts another."""


@dataclass(frozen=True)
class Batches:
    """Training or evaluation batches over an (N, H, W, C) array; see `batches`."""

    images: np.ndarray
    labels: np.ndarray
    preprocess: Preprocess
    batch_size: int
    classes: int
    augment: Augment | None
    mix: Mix | None
    balanced: bool
    seed: int
    rank: int
    world: int

    def __len__(self) -> int:
        """Steps of one epoch."""
        if self.augment is None:
            return -(-len(self.labels) // self.batch_size)
        return len(self.labels) // (self.batch_size * self.world)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Batches of one epoch from step `start` on, prepared one ahead in a thread.

        Yields images (B, C, H, W) float32 in channels_last memory, and class shares (B, K) float32 (one-hot unless
        mixed).
        """
        order = self._order(epoch)
        return _ahead(self._batch(order, epoch, step) for step in range(start, len(self)))

    def batch(self, epoch: int, step: int) -> Batch:
        """One batch, made here and now."""
        return self._batch(self._order(epoch), epoch, step)

    def _order(self, epoch: int) -> np.ndarray:
        """Positions of the whole epoch, (N,)."""
        if self.augment is None:
            return np.arange(len(self.labels))
        rng = np.random.default_rng((self.seed, epoch, ORDER))
        if not self.balanced:
            return rng.permutation(len(self.labels))
        return _balanced(self.labels, rng)

    def _batch(self, order: np.ndarray, epoch: int, step: int) -> Batch:
        first = (step * self.world + self.rank) * self.batch_size
        chosen = order[first : first + self.batch_size]
        if self.augment is None:
            pixels = np.array(middle(self.images[chosen], self.preprocess.size))
        else:
            rows = (
                self.augment(self.images[i], np.random.default_rng((self.seed, epoch, IMAGE, first + k)))
                for k, i in enumerate(chosen)
            )
            pixels = np.stack(list(rows))
        x = self.preprocess.normalise(pixels)
        y = torch.nn.functional.one_hot(torch.from_numpy(self.labels[chosen]), self.classes).float()
        if self.mix is not None:
            x, y = self.mix(x, y, np.random.default_rng((self.seed, epoch, MIX, step, self.rank)))
        return x, y


def batches(
    images: np.ndarray,
    labels: np.ndarray,
    preprocess: Preprocess,
    *,
    batch_size: int = 32,
    classes: int | None = None,
    augment: Augment | None = None,
    mix: Mix | None = None,
    balanced: bool = False,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Batches:
    """A loader over cached images (see `opsin.data.cached`).

    With `augment` it is for training: shuffled anew each epoch, whole batches only (a smaller one where there are
    fewer images than `batch_size`). Without, for evaluation: in order, all images, the middle of each.

    Args:
        images: (N, H, W, C) uint8, uint16 or float32. labels: (N,) class indices. classes: K, else the largest label
            plus one.
        balanced: draws every class equally often (images of rare classes repeat) instead of every image once.
        rank, world: this process of so many; each sees its own batches of the same epoch.

    Raises:
        DataError: no images, sizes or labels that do not fit.
    """
    labels = np.asarray(labels, dtype=np.int64)
    classes = int(labels.max(initial=-1)) + 1 if classes is None else classes
    if images.ndim != 4 or len(images) != len(labels) or not len(labels):
        raise DataError(f"images {images.shape} and labels {labels.shape} do not fit; (N, H, W, C) and (N,) are needed")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"labels go from {labels.min()} to {labels.max()}, there are {classes} classes")
    if images.shape[3] != preprocess.channels:
        raise DataError(f"images have {images.shape[3]} channels, preprocessing says {preprocess.channels}")
    if augment is not None and augment.size != preprocess.size:
        raise DataError(f"augmentation ends at {augment.size}, preprocessing says {preprocess.size}")
    if batch_size < 1 or (augment is not None and len(labels) < world):
        raise DataError(f"batch_size={batch_size} with {len(labels)} images on {world} processes leaves empty batches")
    if augment is not None:
        batch_size = min(batch_size, len(labels) // world)
    return Batches(images, labels, preprocess, batch_size, classes, augment, mix, balanced, seed, rank, world)


def _balanced(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many positions as there are labels, the classes in equal number, each class gone through in turn."""
    present = np.unique(labels)
    shares = np.full(len(present), len(labels) // len(present))
    shares[rng.permutation(len(present))[: len(labels) % len(present)]] += 1
    drawn = []
    for label, share in zip(present, shares):
        where = np.flatnonzero(labels == label)
        rounds = [rng.permutation(where) for _ in range(-(-share // len(where)))]
        drawn.append(np.concatenate(rounds)[:share] if rounds else where[:0])
    return rng.permutation(np.concatenate(drawn))


def _ahead(source: Iterator[Batch]) -> Iterator[Batch]:
    """The same items, each made while the one before it is used; an error arrives where its item would have."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(1)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:  # nobody may be left to take it
                continue

    def work() -> None:
        try:
            for item in source:
                put(item)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
