"""The lock file: `weights.lock` makes the same name mean the same bytes, also where its source could change.

JSON, {name or source: {"source", "revision", "sha256"}}. Found in the working folder, or where `OPSIN_LOCK` points.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from . import cache
from .errors import WeightsError


@dataclass(frozen=True)
class Pin:
    """What a name stands for: a source, its revision, and the SHA-256 of what is downloaded."""

    source: str
    revision: str | None
    sha256: str


def path() -> Path:
    return Path(os.environ.get("OPSIN_LOCK") or "weights.lock")


def read(file: Path | None = None) -> dict[str, Pin]:
    """The pins of a lock file; none when there is no such file.

    Raises:
        WeightsError: a file that is not a lock file.
    """
    file = file or path()
    if not file.exists():
        return {}
    try:
        return {name: Pin(**pin) for name, pin in json.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{file} is no readable lock file ({error}); delete it and pull again") from error


def write(pins: dict[str, Pin], file: Path | None = None) -> Path:
    """Add pins to a lock file (a new one when there is none); returns its path."""
    file = file or path()
    told = {name: asdict(pin) for name, pin in sorted({**read(file), **pins}.items())}
    with cache.atomic(file) as temporary:
        temporary.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return file


def check(name: str, sha256: str) -> None:
    """Raise `WeightsError` when the lock file says that other bytes are meant by this name."""
    pin = read().get(name)
    if pin and pin.sha256 != sha256:
        raise WeightsError(
            f"{name} has SHA-256 {sha256}, but {path()} pins {pin.sha256}; "
            "delete what was downloaded to fetch it again, or take the name out of the lock file to accept the change"
        )
