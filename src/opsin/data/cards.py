"""The data card: what is in a dataset, and what is wrong with it, before anything is trained."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from opsin.data.dataset import SPLITS, Dataset, few
from opsin.data.scan import Facts, scan

NONE = "all"
"""Column of samples whose split is not decided yet."""


@dataclass(frozen=True)
class Card:
    """A dataset in numbers; `to_dict()` is plain JSON, `str()` a few lines.

    `height` and `width` hold min, median and max in pixels of the upright images. `duplicates` are sets of samples
    with the same pixels, `conflicts` those among them with different labels. `leakage` counts, for each pair of
    splits, the images that both have and the groups that both have. `balance` is the share of the rarest class times
    the number of classes: 1 is even.
    """

    name: str
    images: int
    counts: dict[str, dict[str, int]]
    height: tuple[int, float, int]
    width: tuple[int, float, int]
    formats: dict[str, int]
    pixels: dict[str, int]
    balance: float
    duplicates: list[list[str]]
    conflicts: list[list[str]]
    leakage: dict[str, dict[str, int]]
    broken: list[tuple[str, str]]
    skipped: list[tuple[str, str]]
    notes: list[str]
    licence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def card(data: Dataset) -> Card:
    """Looks at every image once (see `opsin.data.scan.scan`) and counts."""
    facts = scan(data)
    good = [(sample, fact) for sample, fact in zip(data, facts) if not fact.error]
    columns = [name for name in (*SPLITS, None) if any(sample.split == name for sample in data)]
    counted = Counter((sample.label, sample.split) for sample in data)
    per_class = Counter(sample.label for sample in data)
    same: dict[str, list[int]] = defaultdict(list)
    for i, fact in enumerate(facts):
        if fact.digest:
            same[fact.digest].append(i)
    twins = [group for group in same.values() if len({data[i].source for i in group}) > 1]
    return Card(
        name=data.name,
        images=len(data),
        counts={
            name: {column or NONE: counted[i, column] for column in columns} for i, name in enumerate(data.classes)
        },
        height=_spread(fact.height for _, fact in good),
        width=_spread(fact.width for _, fact in good),
        formats=dict(Counter(fact.format for fact in facts).most_common()),
        pixels=dict(Counter(_kind(fact) for _, fact in good).most_common()),
        balance=min(per_class[i] for i in range(len(data.classes))) / max(len(data), 1) * len(data.classes),
        duplicates=[[str(data[i]) for i in group] for group in twins],
        conflicts=[[str(data[i]) for i in g] for g in same.values() if len({data[i].label for i in g}) > 1],
        leakage=_leakage(data, facts),
        broken=[(str(sample), fact.error) for sample, fact in zip(data, facts) if fact.error],
        skipped=list(data.skipped),
        notes=list(data.notes),
        licence=data.licence,
    )


def _spread(values: Iterable[int]) -> tuple[int, float, int]:
    sizes = np.array(list(values) or [0])
    return int(sizes.min()), float(np.median(sizes)), int(sizes.max())


def _kind(fact: Facts) -> str:
    return f"{fact.bands} x {fact.dtype}"


def _leakage(data: Dataset, facts: list[Facts]) -> dict[str, dict[str, int]]:
    images: dict[str, set[str]] = defaultdict(set)
    groups: dict[str, set[str]] = defaultdict(set)
    for sample, fact in zip(data, facts):
        if sample.split and fact.digest:
            images[sample.split].add(fact.digest)
        if sample.split and sample.group:
            groups[sample.split].add(sample.group)
    return {
        f"{a}/{b}": {"images": len(images[a] & images[b]), "groups": len(groups[a] & groups[b])}
        for a, b in combinations(data.splits, 2)
    }


def _lines(card: Card) -> Iterable[str]:
    yield f"{card.name}: {card.images} images, {len(card.counts)} classes, balance {card.balance:.2f} (1 is even)"
    shown = list(card.counts.items())
    for name, columns in shown[:12]:
        yield f"  {name}: " + ", ".join(f"{number} {column}" for column, number in columns.items())
    if len(shown) > 12:
        yield f"  and {len(shown) - 12} more classes"
    low, middle, high = zip(card.width, card.height)
    yield "  width x height: " + ", ".join(f"{name} {w:g} x {h:g}" for name, (w, h) in _sizes(low, middle, high))
    yield "  formats: " + ", ".join(f"{name} {number}" for name, number in (card.formats | card.pixels).items())
    if card.duplicates:
        yield f"  same pixels: {len(card.duplicates)} sets, e.g. {few(card.duplicates[0], 3)}"
    if card.conflicts:
        yield f"  same pixels, different labels: {len(card.conflicts)} sets, e.g. {few(card.conflicts[0], 3)}"
    for pair, shared in card.leakage.items():
        if any(shared.values()):
            yield f"  leakage {pair}: {shared['images']} images and {shared['groups']} groups are in both"
    if card.broken:
        yield f"  broken: {len(card.broken)}: {few([reason for _, reason in card.broken], 3)}"
    if card.skipped:
        yield f"  skipped: {len(card.skipped)}: {few([f'{name} ({why})' for name, why in card.skipped], 3)}"
    yield from (f"  note: {note}" for note in card.notes)


def _sizes(*rows: tuple[float, float]) -> Iterable[tuple[str, tuple[float, float]]]:
    return zip(("min", "median", "max"), rows)
