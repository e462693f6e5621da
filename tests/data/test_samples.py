"""Named sample sets and IDX folders."""

import gzip
import struct

import numpy as np
import pytest

import opsin.data as data
from opsin.data import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_shapes_are_drawn_from_the_seed():
    first = data.open("demo:shapes", seed=1)
    assert first.classes == ("circle", "cross", "square", "triangle")
    assert np.bincount(first.labels).tolist() == [30] * 4
    assert data.open("demo:shapes", seed=1) == first
    other = data.open("demo:shapes", seed=2)
    assert not np.array_equal(data.read_image(first[0]), data.read_image(other[0]))
    card = data.card(first)
    assert not card.duplicates
    assert card.width == (64, 64.0, 64)


def test_unknown_names():
    with pytest.raises(DataError, match=r"no sample set 'solar-cell'; did you mean demo:solar-cells\?"):
        data.open("demo:solar-cell")
    with pytest.raises(DataError, match="cannot be taken from a folder"):
        data.open("demo:shapes@/tmp")


def idx(folder, prefix, images, labels, pack=gzip.compress, suffix=".gz"):
    folder.mkdir(exist_ok=True)
    head = struct.pack(">IIII", 0x803, *images.shape)
    (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(head + images.tobytes()))
    (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(
        pack(struct.pack(">II", 0x801, len(labels)) + labels.tobytes())
    )


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (14, 5, 4), dtype=np.uint8)
    labels = np.arange(14, dtype=np.uint8) % 3
    idx(tmp_path / "idx", "train", images[:10], labels[:10])
    idx(tmp_path / "idx", "t10k", images[10:], labels[10:], pack=bytes, suffix="")
    return tmp_path / "idx", images, labels


def test_idx_folders(folder):
    path, images, labels = folder
    found = data.open(path)
    assert found.classes == ("0", "1", "2")
    assert [len(found.part(name)) for name in found.splits] == [10, 4]
    assert np.array_equal(found.labels, labels)
    for sample, image in zip(found, images):
        assert np.array_equal(data.read_image(sample, 1)[..., 0], image)
    assert data.card(found).formats == {"IDX": 14}


def test_fashion_mnist_from_a_folder(folder, capsys):
    found = data.open(f"demo:fashion-mnist@{folder[0]}")
    assert found.classes[9] == "Ankle boot"
    assert "MIT" in capsys.readouterr().err
    data.open(f"demo:fashion-mnist@{folder[0]}", quiet=True)
    assert "MIT" not in capsys.readouterr().err


def test_broken_idx_files(folder):
    path, images, labels = folder
    idx(path, "train", images[:10], labels[:9])
    with pytest.raises(DataError, match="holds 10 images, there are 9 labels"):
        data.open(path)
    whole = (path / "train-images-idx3-ubyte.gz").read_bytes()
    (path / "train-images-idx3-ubyte.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match="is broken"):
        data.open(path)
    (path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    with pytest.raises(DataError, match="not a whole IDX file"):
        data.open(path)
    (path / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match="has neither"):
        data.open(path)


def test_no_connection(monkeypatch):
    monkeypatch.setenv("OPSIN_OFFLINE", "1")
    monkeypatch.setattr("opsin.data.samples.FASHION_INSTALLED", data.open("demo:shapes")[0].path / "no")
    with pytest.raises(DataError, match="downloads are off; put its four files"):
        data.open("demo:fashion-mnist")


def test_apt_that_fails(monkeypatch, tmp_path):
    monkeypatch.setattr("opsin.data.samples.FASHION_INSTALLED", tmp_path / "no")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="apt-get"):
        data.open("demo:fashion-mnist")


@pytest.mark.packages
def test_solar_cells(capsys):
    found = data.open("demo:solar-cells")
    assert "CC BY-NC-SA 4.0" in capsys.readouterr().err
    assert found.classes == ("functional", "defective")
    assert np.bincount(found.labels).tolist() == [1803, 821]
    assert data.read_image(found[7], 1).shape == (300, 300, 1)


@pytest.mark.packages
def test_fashion_mnist(monkeypatch, tmp_path):
    monkeypatch.setattr("opsin.data.samples.FASHION_INSTALLED", tmp_path / "no")
    found = data.open("demo:fashion-mnist")
    assert np.bincount(found.part("train").labels).tolist() == [6000] * 10
    assert np.bincount(found.part("test").labels).tolist() == [1000] * 10
    assert data.read_image(found[0]).shape == (28, 28, 3)
    assert data.read_image(found[0], 1).mean() == pytest.approx(97.25, abs=0.01)
