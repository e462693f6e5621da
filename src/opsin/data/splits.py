"""Which images are learned from, chosen by, and tested on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from opsin.data.dataset import DataError, Dataset
from opsin.data.scan import scan


def split(data: Dataset, *, val: float = 0.15, test: float = 0.15, seed: int = 0) -> Dataset:
    """Gives every sample a split: stratified by class, the same for the same seed.

    Images with the same pixels, and samples of the same group, come to the same side. Splits that the data came with
    are kept: only parts that are missing are taken, out of the training part. Broken files move to `skipped`.

    Args:
        val, test: shares of each class, 0 for no such part. A class with fewer images than parts is trained on.

    Raises:
        DataError: shares that leave nothing to train on, or so few images or groups that a part stays empty.
    """
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise DataError(f"val={val} and test={test} must be shares of the images, 0 or more, and below 1 together")
    data = usable(data)
    shares = {name: share for name, share in (("val", val), ("test", test)) if share and name not in data.splits}
    pool = [i for i, sample in enumerate(data) if sample.split in (None, "train")]
    if not pool:
        raise DataError(f"{data.name} has no images to train on: all are marked {' or '.join(data.splits)}")
    side = _assign(data, pool, shares, np.random.default_rng(seed))
    samples = [replace(sample, split=side.get(i, sample.split)) for i, sample in enumerate(data)]
    done = replace(data, samples=tuple(samples))
    empty = [name for name in ("train", *shares) if name not in done.splits]
    if empty:
        raise DataError(
            f"{len(pool)} images of {data.name} are too few (or their groups too large) for a {empty[0]} part; "
            f"give more images, or set {empty[0]}=0"
            if empty[0] != "train"
            else f"nothing is left to train on in {data.name}"
        )
    return done


def usable(data: Dataset) -> Dataset:
    """The samples whose pixels can be read; the others are in `skipped` with the reason."""
    facts = scan(data)
    broken = tuple((str(sample), fact.error) for sample, fact in zip(data, facts) if fact.error)
    if not broken:
        return data
    good = tuple(sample for sample, fact in zip(data, facts) if not fact.error)
    if not good:
        raise DataError(f"none of the {len(data)} images of {data.name} can be read; the first: {broken[0][1]}")
    return replace(data, samples=good, skipped=data.skipped + broken)


def _assign(data: Dataset, pool: list[int], shares: dict[str, float], rng: np.random.Generator) -> dict[int, str]:
    """Largest sets first, each to the part that lacks most of its classes."""
    labels = data.labels[pool]
    count = np.bincount(labels, minlength=len(data.classes))
    want = {name: np.round(share * count) for name, share in shares.items()}
    for name in want:  # every class that can spare one is in every part
        want[name] = np.where(count > len(shares), np.maximum(want[name], 1), want[name])
    want["train"] = count - sum(want.values(), np.zeros_like(count, dtype=float))
    units = _together(data, pool)
    order = sorted(rng.permutation(len(units)), key=lambda u: -len(units[u]))
    side: dict[int, str] = {}
    for u in order:
        has = np.bincount([data[i].label for i in units[u]], minlength=len(data.classes))
        name = max(want, key=lambda part: float((has * want[part] / np.maximum(count, 1)).sum()))
        want[name] = want[name] - has
        side.update(dict.fromkeys(units[u], name))
    return side


def _together(data: Dataset, pool: list[int]) -> list[list[int]]:
    """Sets of samples tied by equal pixels or an equal group, also through others; found by union-find."""
    parent = {i: i for i in pool}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str | None], int] = {}
    facts = scan(data)
    for i in pool:
        for tie in (("pixels", facts[i].digest), ("group", data[i].group)):
            if tie[1]:
                parent[root(i)] = root(first.setdefault(tie, i))
    units: dict[int, list[int]] = defaultdict(list)
    for i in pool:
        units[root(i)].append(i)
    return list(units.values())
