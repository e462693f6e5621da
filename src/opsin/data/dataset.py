"""What a set of labelled images is, whatever it was read from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opsin.errors import OpsinError

if TYPE_CHECKING:
    from opsin.data.scan import Facts

SPLITS = ("train", "val", "test")
"""The names of the parts of a dataset, in the order in which they are shown."""


class DataError(OpsinError, ValueError):
    """Images, labels or tables that cannot be used as they are; the message names them and the remedy."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image: a file, or one member of a file that holds many.

    `label` indexes `Dataset.classes`. `split` is "train", "val", "test" or None (not decided yet). Samples of one
    `group` (a patient, a camera) must stay on one side of a split. `member` names the image inside a zip archive, or
    its row in an IDX file.
    """

    path: Path
    label: int
    split: str | None = None
    group: str | None = None
    member: str | None = None

    @property
    def source(self) -> tuple[Path, str | None]:
        """Where the pixels are: equal for two samples of one image, whatever their labels."""
        return self.path, self.member

    def __str__(self) -> str:
        return shown(self.path if self.member is None else f"{self.path}:{self.member}")


@dataclass(frozen=True)
class Dataset:
    """Samples in a fixed order, with the names of their classes.

    `skipped` holds every file that was seen and left out, with the reason; `notes` what a careful reader would ask
    about (labels that differ only in case, a class with one image); `licence` the terms of a named sample.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    name: str = "data"
    licence: str = ""
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    facts: dict[tuple[Path, str | None], Facts] = field(default_factory=dict, repr=False, compare=False)
    """What `opsin.data.scan` found out about each image; shared by every part of one dataset."""

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    @property
    def labels(self) -> np.ndarray:
        """Class index of every sample, (N,) int64."""
        return np.array([sample.label for sample in self.samples], dtype=np.int64)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the parts that hold samples."""
        present = {sample.split for sample in self.samples}
        return tuple(name for name in SPLITS if name in present)

    def part(self, split: str) -> Dataset:
        """The samples of one split, same order, same classes. Raises `DataError` when there are none."""
        samples = tuple(sample for sample in self.samples if sample.split == split)
        if not samples:
            have = ", ".join(self.splits) or "no split yet; call opsin.data.split first"
            raise DataError(f"{self.name} has no {split!r} images (it has: {have})")
        return replace(self, samples=samples)

    def subset(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """The samples at these positions, in this order."""
        return replace(self, samples=tuple(self.samples[int(i)] for i in indices))


def shown(name: str | os.PathLike[str]) -> str:
    """A file name as printable text: undecodable bytes and control characters are written as escapes."""
    text = os.fspath(name).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def few(names: Sequence[str], most: int = 5) -> str:
    """The first few names and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
