"""Fetching weights ahead of need, proving that they are whole, and carrying them to a machine without a network."""

import shutil
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from opsin.progress import track

from . import cache, hub, lock
from .entry import entries, entry
from .errors import MissingWeights, WeightsError
from .source import Fetched, elsewhere, published

LOCK = "weights.lock"


@dataclass(frozen=True)
class Status:
    """What became of a weight: `state` is "ok", "missing" or "wrong"; `reason` tells why it is not ok."""

    name: str
    state: str
    reason: str = ""


def fetch(name: str, licence: str | None = None) -> Fetched:
    """A published weight by name, or one of another source (`hf-hub:...`, a path), in the cache."""
    local = any(mark in name for mark in ":/\\") or Path(name).exists()
    return elsewhere(name, licence) if local else published(entry(name), licence)


def pull(names: Iterable[str], licence: str | None = None) -> list[Path]:
    """Fetch weights into the cache and pin them in the lock file; returns their files.

    Args:
        names: of published weights, or sources: `hf-hub:organisation/name@revision`, paths.

    Raises:
        WeightsError: one is not known, not to be had, outside the licence gate, or not what the lock file pins.
    """
    fetched = [fetch(name, licence) for name in track(list(names), "pulling weights")]
    lock.write({each.name: each.pin for each in fetched})
    return [each.path for each in fetched]


def verify(names: Iterable[str] | None = None) -> list[Status]:
    """Whether weights are in the cache and whole, without fetching any: those of the lock file and all published ones.

    Each is read to its last tensor, and its SHA-256 compared with the pinned one.
    """
    chosen = dict.fromkeys([*entries(), *lock.read()] if names is None else names)
    return [_status(name) for name in chosen]


def bundle(names: Iterable[str], out: str | Path, licence: str | None = None) -> Path:
    """Put weights into a folder, or a `.tar` file, that `unbundle` puts into the cache of another machine.

    Raises:
        WeightsError: one cannot be had, is a local file, or `out` exists.
    """
    out = Path(out)
    if out.exists():
        raise WeightsError(f"{out} exists; choose another name or delete it")
    fetched = [fetch(name, licence) for name in track(list(names), "bundling weights")]
    with cache.atomic(out) as temporary:
        folder = temporary.with_name(temporary.name + ".folder") if out.suffix == ".tar" else temporary
        try:
            _fill(folder, fetched)
            if folder != temporary:
                with tarfile.open(temporary, "w") as tar:
                    tar.add(folder, arcname=".")
        finally:
            if folder != temporary:
                shutil.rmtree(folder, ignore_errors=True)
    return out


def unbundle(source: str | Path) -> list[Status]:
    """Put the weights of a bundle (a folder or a `.tar` file) into the cache, pin them, and verify them.

    Raises:
        WeightsError: not a bundle, or one that is not safe to unpack.
    """
    source = Path(source)
    if source.is_dir():
        return _take(source)
    with cache.scratch(cache.folder()) as folder:
        try:
            with tarfile.open(source, "r:") as tar:
                tar.extractall(folder, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise WeightsError(f"{source} is not a bundle that can be unpacked safely: {error}") from error
        return _take(folder)


def _fill(folder: Path, fetched: list[Fetched]) -> None:
    for each in fetched:
        if each.pin.source.startswith(hub.PREFIX):
            repo = hub.repository(each.pin.source)
            home = folder / "hub" / f"models--{repo.name.replace('/', '--')}"
            snapshot = home / "snapshots" / str(each.pin.revision)
            ref = home / "refs" / (repo.revision or "main")
            for path in (each.path, each.path.parent / "config.json"):
                _copy(path, snapshot / path.name)
            if ref.name != each.pin.revision:
                ref.parent.mkdir(parents=True, exist_ok=True)
                ref.write_text(str(each.pin.revision))
        elif each.path.suffix == ".whl":
            _copy(each.path, folder / "wheels" / each.path.name)
        else:
            raise WeightsError(f"{each.name} is a file on this machine already; copy it instead of bundling it")
    lock.write({each.name: each.pin for each in fetched}, folder / LOCK)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _take(folder: Path) -> list[Status]:
    if not (folder / LOCK).is_file():
        raise WeightsError(f"{folder} is not a bundle: it has no {LOCK}; give what opsin weights bundle made")
    pins = lock.read(folder / LOCK)
    for part in ("wheels", "hub"):
        for path in sorted((folder / part).rglob("*")):
            if path.is_file() and not path.is_symlink():
                with cache.atomic(cache.folder() / path.relative_to(folder)) as temporary:
                    shutil.copyfile(path, temporary)
    lock.write(pins)
    return [_status(name, pin) for name, pin in pins.items()]


def _status(name: str, pin: lock.Pin | None = None) -> Status:
    with cache.no_downloads():
        try:
            fetched = fetch(name)
            fetched.tensors()
        except WeightsError as error:
            return Status(name, "missing" if isinstance(error, MissingWeights) else "wrong", str(error))
    if pin and pin.sha256 != fetched.pin.sha256:
        return Status(name, "wrong", f"SHA-256 {fetched.pin.sha256}, not the bundle's {pin.sha256}")
    return Status(name, "ok")
