"""Everything that decides how a run goes, merged into one file that repeats it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from ..weights import cache
from .steps import RunError

CONFIG = "config.yaml"


@dataclass(frozen=True)
class Settings:
    """A run's settings; `opsin fit --set key=value` changes those below `seed`."""

    data: str
    under: list[str] = field(default_factory=list)
    model: str = "auto"
    minutes: float = 7.5
    """For the whole run but for downloads; fine-tuning gets what the other steps leave."""
    licence: str | None = None
    seed: int = 0

    test: float = 0.25
    """Share of the images for the one final test, unless the data has a test part."""
    val: float = 0.1
    """Share of the images for choosing, unless the data has one."""
    label: str = "label"
    """Column of the labels in a table."""
    group: str | None = None
    """Column of a table whose equal values must stay on one side of the split."""
    probe_images: int = 1200
    """At most so many training images rank the candidates."""
    candidates: int = 4
    """At most so many networks are ranked by probes."""
    finetune: bool = True
    recipe: str | None = None
    """Of opsin.train.recipes; none: finetune for published weights, scratch for drawn ones."""
    train: dict[str, Any] = field(default_factory=dict)
    """Changes to that recipe: `--set train.lr=0.001`."""
    graft: dict[str, str] = field(default_factory=dict)
    """Operators swapped in the network: `--set "graft.stages.2.*.mixer=attention(heads=4)"`, or a whole table."""
    size: int | None = None
    """Input side in pixels instead of the largest that keeps the limits."""
    threads: int | None = None
    """Of the exported file at work; none: whatever is faster here."""
    tolerance: float = 1e-3
    """Largest difference of a probability that the exported file may have from torch's."""
    precision: str = "auto"
    """Of the exported file: "fp32", "int8", or int8 where that lets a network keep the limits at a larger input."""
    agreement: float = 0.95
    """Least share of pictures on which an int8 file must answer as torch does; its own test figures are reported."""


def merge(settings: Settings, changes: Iterable[str]) -> Settings:
    """Settings with `key=value` texts laid over them; `train.key=value` and `graft.where=operator` reach inside.

    Raises:
        RunError: an unknown key; near ones are suggested.
    """
    known = [f.name for f in fields(Settings)]
    for text in changes:
        key, equals, value = text.partition("=")
        head, _, tail = key.strip().partition(".")
        if not equals or head not in known or (tail and head not in ("train", "graft")):
            near = get_close_matches(head, known, 3, 0.5) or known
            raise RunError(f"--set {text}: write key=value with a key such as {', '.join(near)}")
        below: dict[str, Any] = {**getattr(settings, head), tail: literal(value)} if tail else {}
        changed: dict[str, Any] = {head: below or literal(value)}
        settings = replace(settings, **changed)
    return settings


def literal(text: str) -> Any:
    """A Python value where the text is one, else the text: `0.1`, `true`, `[1, 2]`, `bilinear`."""
    plain = {"true": True, "false": False, "none": None, "null": None}
    if text.strip().lower() in plain:
        return plain[text.strip().lower()]
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()


def begin(folder: Path, settings: Settings, resume: bool) -> Settings:
    """Claim a run folder; on resuming, the settings that are in it.

    Raises:
        RunError: a folder that holds a run (and `resume` is off), none (and it is on), or one of other settings.
    """
    path = folder / CONFIG
    if path.is_file() and not resume:
        raise RunError(f"{folder} holds a run already: --resume goes on with it, --out names another folder")
    if resume and not path.is_file():
        raise RunError(f"{folder} holds no run to resume: it has no {CONFIG}; leave --resume out to start one")
    if resume:
        return read(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists and is not empty: --out names another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror}; --out names another folder") from error
    with cache.atomic(path) as part:
        part.write_text(yaml.safe_dump(asdict(settings), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return settings


def read(path: Path) -> Settings:
    """Settings from a `config.yaml`.

    Raises:
        RunError: not a file of settings.
    """
    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(held, Mapping):
            raise TypeError("it is not a table of settings")
        return Settings(**held)
    except (OSError, yaml.YAMLError, TypeError) as error:
        raise RunError(f"{path} is no file of settings that opsin fit wrote: {error}") from error
