"""The cache folder, the only place outside a run folder that the library writes to."""

import errno
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from .errors import WeightsError

_downloads_off: ContextVar[bool] = ContextVar("downloads_off", default=False)


def folder() -> Path:
    """The cache folder: `$OPSIN_CACHE`, or `~/.cache/opsin`. It may not exist yet."""
    return Path(os.environ.get("OPSIN_CACHE") or Path.home() / ".cache" / "opsin").expanduser()


def offline() -> bool:
    """True when `OPSIN_OFFLINE` or `HF_HUB_OFFLINE` forbids downloads, or `no_downloads` does."""
    if _downloads_off.get():
        return True
    settings = (os.environ.get(name, "").lower() for name in ("OPSIN_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value in {"1", "true", "yes", "on"} for value in settings)


@contextmanager
def no_downloads() -> Iterator[None]:
    """Inside this block `offline` is true."""
    token = _downloads_off.set(True)
    try:
        yield
    finally:
        _downloads_off.reset(token)


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` for a file or a folder, which takes `path`'s place only if the block succeeds.

    Raises:
        WeightsError: nothing could be written there (disk full, no permission); `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    with _writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _replace(temporary, path)
        finally:
            _remove(temporary)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """An empty folder inside `parent`, gone afterwards; what is worth keeping is moved out of it."""
    with _writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".", ignore_cleanup_errors=True) as folder:
            yield Path(folder)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error.strerror or error}; {_remedy(error, path)}") from error


def _replace(new: Path, path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        os.replace(new, path)
        return
    # A folder cannot be replaced in one step: the old one steps aside, and comes back if the new one cannot move in.
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remedy(error: OSError, path: Path) -> str:
    elsewhere = "set OPSIN_CACHE to a folder" if path.is_relative_to(folder()) else "choose a folder"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"free space on that disk, or {elsewhere} on a larger one"
    return f"check that {path.parent} is a folder you may write to, or {elsewhere} where you may"
