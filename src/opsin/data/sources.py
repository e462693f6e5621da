"""Where labelled images come from: folders, tables, Python lists and named samples, all to one `Dataset`."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opsin.data.dataset import SPLITS, DataError, Dataset, Sample, few, shown
from opsin.data.idx import IMAGES
from opsin.data.reader import extensions

PARTS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
TABLES = {".csv": ",", ".tsv": "\t", ".parquet": ""}

Row = tuple[str, Any, Any, Any]
"""Path, label, split and group as they stand in a table; None where there is nothing."""


def open(  # the verb of this package; the builtin is not needed here
    source: str | os.PathLike[str] | Iterable[Any],
    *,
    group: str | None = None,
    label: str = "label",
    seed: int = 0,
    quiet: bool = False,
) -> Dataset:
    """Finds labelled images and puts them in a fixed order; reads no pixels.

    Args:
        source: a folder with a folder a class, or with `train/`, `val/`, `test/` of such folders; a CSV, TSV or Parquet
            table with the columns `path` (relative to the table) and `label`, optionally `split`; a folder with the
            IDX files of an MNIST-like set; a list of `(path, label)` or `Sample`; `demo:NAME`
            (`opsin.data.samples.NAMES`).
        group: column of the table whose equal values must stay on one side of a split (a patient, a camera).
        label: column of the table with the class.
        seed: what generated samples (`demo:shapes`) are drawn from.
        quiet: keeps the licence of a named sample to itself; the caller then has to show `dataset.licence` before use.

    Raises:
        DataError: nothing there, no images, one class only, columns or files missing.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _checked(_listed(source, "list", Path()))
    text = os.fspath(source)
    if text.startswith("demo:"):
        from opsin.data.samples import sample

        return _checked(sample(text.removeprefix("demo:"), seed=seed, quiet=quiet))
    path = Path(text).expanduser()
    if not path.exists():
        raise DataError(f"{shown(path)} does not exist; give a folder, a table (.csv, .tsv, .parquet) or demo:NAME")
    if path.is_file():
        return _checked(_table(path, label, group))
    if group is not None:
        raise DataError(f"group={group!r} names a column of a table; {shown(path)} is a folder")
    if any(path.glob(f"*{IMAGES}*")):
        from opsin.data.samples import idx_folder

        return _checked(idx_folder(path, path.name))
    return _checked(_folder(path))


def _checked(data: Dataset) -> Dataset:
    if not data.samples:
        reasons = f"; skipped: {few([f'{name} ({why})' for name, why in data.skipped])}" if data.skipped else ""
        raise DataError(f"no labelled images in {data.name}{reasons}; make one folder a class with the images in it")
    if len(data.classes) < 2:
        raise DataError(
            f"{data.name} has one class only, {data.classes[0]!r}; a classifier needs two: make one folder a class"
        )
    return replace(data, notes=data.notes + tuple(_questions(data)))


def _questions(data: Dataset) -> Iterator[str]:
    alike: dict[str, list[str]] = {}
    for name in data.classes:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            yield f"classes {', '.join(map(repr, names))} differ only in case or spaces; rename if they mean the same"
    count = [0] * len(data.classes)
    in_train = [0] * len(data.classes)
    for sample in data.samples:
        count[sample.label] += 1
        in_train[sample.label] += sample.split in (None, "train")
    for name, images, train in zip(data.classes, count, in_train):
        if images == 1:
            yield f"class {name!r} has one image: it can be learned from or tested on, not both"
        if not train:
            yield f"class {name!r} has no training image"
    labels: dict[tuple[Path, str | None], set[int]] = {}
    for sample in data.samples:
        labels.setdefault(sample.source, set()).add(sample.label)
    both = [shown(path) for (path, _), found in labels.items() if len(found) > 1]
    if both:
        yield f"listed with two labels: {few(both)}"


def _class_order(names: set[str]) -> tuple[str, ...]:
    """Numbers by value, names by code point."""
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _folder(root: Path) -> Dataset:
    skipped: list[tuple[str, str]] = []
    tops = [entry for entry in _entries(root) if entry.is_dir()]
    splits = {entry: PARTS.get(entry.name.lower()) for entry in tops}
    given = "train" in splits.values() and all(
        any(inner.is_dir() for inner in _entries(entry)) for entry, part in splits.items() if part == "train"
    )
    found: list[tuple[Path, str, str | None]] = []
    for top in tops:
        if not given:
            found += [(path, top.name, None) for path in _images(top, skipped)]
        elif splits[top] is None:
            skipped.append((shown(top), "not a train, val or test folder"))
        else:
            for folder in _entries(top):
                if folder.is_dir():
                    found += [(path, folder.name, splits[top]) for path in _images(folder, skipped)]
                else:
                    skipped.append((shown(folder), "not in a class folder"))
    skipped += [(shown(entry), "not in a class folder") for entry in _entries(root) if not entry.is_dir()]
    classes = _class_order({name for _, name, _ in found})
    index = {name: i for i, name in enumerate(classes)}
    samples = tuple(Sample(path, index[name], part) for path, name, part in found)
    return Dataset(samples, tuple(map(shown, classes)), shown(root), skipped=tuple(skipped))


def _entries(folder: Path) -> list[Path]:
    """Visible entries by name."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be listed: {error.strerror}") from error


def _images(folder: Path, skipped: list[tuple[str, str]], above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Image files below a folder in order; follows links, but never into a folder that it is already in."""
    real = os.path.realpath(folder)
    if real in above:
        skipped.append((shown(folder), "a link to a folder above it"))
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _images(entry, skipped, above | {real})
        elif not entry.exists():
            skipped.append((shown(entry), "a link to nothing"))
        elif not entry.is_file():
            skipped.append((shown(entry), "not a file"))
        elif entry.suffix.lower() not in extensions():
            skipped.append((shown(entry), "not an image by its name"))
        else:
            yield entry


def _table(path: Path, label: str, group: str | None) -> Dataset:
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise DataError(f"{shown(path)} is not a folder and not a table (.csv, .tsv, .parquet)")
    header, rows = _parquet(path) if suffix == ".parquet" else _csv(path, TABLES[suffix])
    wanted = ["path", label] + ([group] if group else [])
    missing = [name for name in wanted if name not in header]
    if missing:
        raise DataError(
            f"{shown(path)} has no column {', '.join(map(repr, missing))}; its columns are {', '.join(header)}"
        )
    records = ((row["path"], row[label], row.get("split"), row[group] if group else None) for row in rows)
    return _listed(records, shown(path), path.parent)


def _csv(path: Path, delimiter: str) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            return list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{shown(path)} is not a UTF-8 table with {delimiter!r} between columns: {error}") from error


def _parquet(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f'{shown(path)} needs the Parquet reader: pip install "opsin[parquet]"') from None
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(f"{shown(path)} cannot be read as Parquet: {error}") from error
    return table.column_names, table.to_pylist()


def _listed(rows: Iterable[Any], name: str, base: Path) -> Dataset:
    """Rows of a table or of a Python list, in their order."""
    kept: list[tuple[Path, str, str | None, str | None]] = []
    skipped: list[tuple[str, str]] = []
    missing: list[str] = []
    given: list[Sample] = []
    exists: dict[Path, bool] = {}
    for number, row in enumerate(rows, 1):
        if isinstance(row, Sample):
            given.append(row)
            continue
        file, label, split, group = _row(row, number, name)
        if not file or label is None or not str(label).strip():
            skipped.append((shown(file or f"row {number}"), "no label" if file else "no path"))
            continue
        path = base / Path(file).expanduser()
        if path not in exists:
            exists[path] = path.is_file()
        if not exists[path]:
            missing.append(shown(file))
        kept.append((path, str(label), _part(split, number, name), str(group) if group not in (None, "") else None))
    if missing:
        raise DataError(
            f"{name} names {len(missing)} files that do not exist: {few(missing)}; "
            f"paths are taken from {shown(base.absolute())}"
        )
    if given and kept:
        raise DataError(f"{name} mixes Sample and (path, label); give one kind")
    if given:
        classes = tuple(str(i) for i in range(max(sample.label for sample in given) + 1))
        return Dataset(tuple(given), classes, name)
    classes = _class_order({label for _, label, _, _ in kept})
    index = {label: i for i, label in enumerate(classes)}
    samples = tuple(Sample(path, index[label], split, group) for path, label, split, group in kept)
    return Dataset(samples, classes, name, skipped=tuple(skipped))


def _row(row: Sequence[Any], number: int, name: str) -> Row:
    if isinstance(row, (str, bytes)) or not isinstance(row, Sequence) or len(row) not in (2, 4):
        raise DataError(f"{name}, row {number}: {row!r} is not (path, label) or (path, label, split, group)")
    file, label, split, group = (*row, None, None)[:4]
    return os.fspath(file) if file is not None else "", label, split, group


def _part(split: Any, number: int, name: str) -> str | None:
    if split is None or not str(split).strip():
        return None
    part = PARTS.get(str(split).strip().lower())
    if part is None:
        raise DataError(f"{name}, row {number}: split {split!r} is none of {', '.join(SPLITS)}")
    return part
