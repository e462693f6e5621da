"""Weights on the Hugging Face hub in timm's layout: `config.json` beside `model.safetensors` or `pytorch_model.bin`.

Downloads go to that hub's own cache, which other tools share. `hub/` in our cache folder has the same layout and is
looked at first: bundles land there, and files brought by hand.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cache
from .errors import MissingWeights, WeightsError
from .files import NAMES

PREFIX = "hf-hub:"
SOURCE = re.compile(r"hf-hub:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class Repository:
    """`organisation/name` at a revision: a commit, a tag or a branch; None is the main branch."""

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}" + (f"@{self.revision}" if self.revision else "")


def repository(source: str) -> Repository:
    """The repository that `hf-hub:organisation/name@revision` names.

    Raises:
        WeightsError: the text is not of that form.
    """
    hit = SOURCE.fullmatch(source)
    if hit is None or ".." in source:
        raise WeightsError(f"{source!r} is no hub source; write hf-hub:organisation/name, with @revision or without")
    return Repository(hit["repo"], hit["revision"])


def config(repo: Repository) -> dict[str, Any]:
    """What its `config.json` says.

    Raises:
        WeightsError: it cannot be had (says what to fetch and where to put it), or is not a JSON object.
    """
    path = _file(repo, "config.json")
    return read_config(path) if path else {}


def read_config(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(told, dict):
        raise WeightsError(f"{path} should hold a JSON object, not {type(told).__name__}")
    return told


def weights(repo: Repository) -> Path:
    """Its file of weights, in the cache.

    Raises:
        WeightsError: it cannot be had (says what to fetch and where to put it), or the repository has none.
    """
    path = next((path for path in (_file(repo, name) for name in NAMES) if path), None)
    if path is None:
        raise WeightsError(f"{repo} has neither {' nor '.join(NAMES)}: it is not in timm's layout")
    return path


def commit(path: Path) -> str | None:
    """The commit that a file in a hub cache belongs to (`.../snapshots/COMMIT/file`)."""
    return path.parent.name if path.parent.parent.name == "snapshots" else None


def folder() -> Path:
    """Where files of the hub can be put by hand."""
    return cache.folder() / "hub"


def _file(repo: Repository, name: str) -> Path | None:
    """One file; None when the repository is known not to have it."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    found = try_to_load_from_cache(repo.name, name, cache_dir=folder(), revision=repo.revision)
    if isinstance(found, str):
        return Path(found)
    try:
        got = hf_hub_download(
            repo.name,
            name,
            revision=repo.revision,
            endpoint=os.environ.get("HF_ENDPOINT"),
            local_files_only=cache.offline(),
        )
    except LocalEntryNotFoundError as error:
        if _other_is_cached(repo, name):
            return None
        raise MissingWeights(_by_hand(repo, name, "is not in the cache and the hub cannot be reached")) from error
    except EntryNotFoundError:
        return None
    except Exception as error:  # the client raises its own, its HTTP library's and the system's
        raise MissingWeights(_by_hand(repo, name, f"could not be downloaded ({_told(error)})")) from error
    return Path(str(got))


def _other_is_cached(repo: Repository, name: str) -> bool:
    """Offline, a cache without the file but with its alternative is a repository that was fetched with that one."""
    from huggingface_hub import try_to_load_from_cache

    others = [other for other in NAMES if other != name] if name in NAMES else []
    places: list[Path | None] = [folder(), None]
    return any(
        isinstance(try_to_load_from_cache(repo.name, other, cache_dir=place, revision=repo.revision), str)
        for other in others
        for place in places
    )


def _told(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _by_hand(repo: Repository, name: str, reason: str) -> str:
    revision = f" --revision {repo.revision}" if repo.revision else ""
    fetch = f"hf download {repo.name} config.json {name}{revision} --cache-dir hub"
    return (
        f"{name} of {repo} {reason}; on a connected machine run\n    {fetch}\n"
        f"and put what is in the folder hub into {folder()}, or give a folder with the two files as the source"
    )
