"""Decoded images on disk, and the batches made of them."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import opsin.data as data
from opsin.data import DataError, Mix, Preprocess, augmentation


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in {"a": 9, "b": 4}.items():
        (tmp_path / "in" / name).mkdir(parents=True)
        for i in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
            coarse.resize((60 + i, 50)).save(tmp_path / "in" / name / f"{i}.jpg")
    return tmp_path / "in"


def test_cached_pixels_are_those_of_the_fast_path(photographs, tmp_path):
    found = data.open(photographs)
    images = data.cached(found, 32, tmp_path / "cache")
    load = Preprocess((32, 32), 1.0, exact=False)
    assert images.shape == (13, 32, 32, 3)
    assert images.dtype == np.uint8
    for image, sample in zip(images, found):
        assert np.array_equal(image, load.pixels(sample))
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_the_middle_of_cached_images_is_what_preprocessing_crops(photographs, tmp_path):
    found = data.open(photographs)
    preprocess = Preprocess((28, 28), 0.875)
    images = data.cached(found, preprocess.resized, tmp_path / "cache")
    ((x, _),) = data.batches(images, found.labels, preprocess, batch_size=99).epoch()
    direct = torch.stack([preprocess(sample) for sample in found])
    assert (x - direct).abs().mean() < 0.05


def test_nothing_is_decoded_twice(photographs, tmp_path, monkeypatch):
    found = data.open(photographs)
    first = data.cached(found, 32, tmp_path / "cache")
    monkeypatch.setattr("opsin.data.preprocess.Preprocess.pixels", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(data.cached(found, 32, tmp_path / "cache"), first)


def test_the_cache_is_never_stale(photographs, tmp_path):
    found = data.open(photographs)
    first = data.cached(found, 32, tmp_path / "cache")
    path = found[0].path
    stat = path.stat()
    other = Image.new("RGB", Image.open(path).size, "red")
    other.save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = data.cached(found, 32, tmp_path / "cache")
    assert second[0, 0, 0].tolist() == [254, 0, 0]
    assert np.array_equal(second[1:], first[1:])
    assert len(data.cached(found.subset([1, 2]), 32, tmp_path / "cache")) == 2
    assert data.cached(found, (16, 24), tmp_path / "cache", channels=1).shape == (13, 16, 24, 1)


def test_depth_is_kept(tmp_path):
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", np.full((8, 8, 5), 1000 * i, np.uint16))
    found = data.open([(tmp_path / f"{i}.npy", i % 2) for i in range(4)])
    images = data.cached(found, 4, tmp_path, channels=5)
    assert images.dtype == np.uint16
    assert images[:, 0, 0, 0].tolist() == [0, 1000, 2000, 3000]
    Image.fromarray(np.full((8, 8), 65535, np.uint16)).save(tmp_path / "deep.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "flat.png")
    mixed = data.cached(data.open([(tmp_path / "deep.png", "a"), (tmp_path / "flat.png", "b")]), 4, tmp_path)
    assert (mixed == 65535).all()


def test_an_interrupted_build_goes_on(photographs, tmp_path):
    """A process is killed while it builds; the next one keeps what was done and ends with the same file."""
    whole = data.cached(data.open(photographs), 32, tmp_path / "whole")
    code = (
        "import sys, time, opsin.data as data; from opsin.data.preprocess import Preprocess as P; pixels = P.pixels\n"
        "P.pixels = lambda self, sample: (time.sleep(0.3), pixels(self, sample))[1]\n"
        "data.cached(data.open(sys.argv[1]), 32, sys.argv[2])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(photographs), str(tmp_path / "cut")], stderr=subprocess.DEVNULL
    )
    part = tmp_path / "cut"
    deadline = time.monotonic() + 60
    while not list(part.glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = part.glob("*")
    assert left.suffix == ".part"
    assert np.array_equal(data.cached(data.open(photographs), 32, part), whole)
    assert [p.suffix for p in part.iterdir()] == [".npy"]


def test_rows_done_are_not_done_again(photographs, tmp_path, monkeypatch):
    found = data.open(photographs)
    whole = np.array(data.cached(found, 32, tmp_path / "cache"))
    (file,) = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    for cut in (10, 128, 128 + 5 * 32 * 32 * 3 + 7):
        file.unlink()
        file.with_suffix(".part").write_bytes(content[:cut])
        calls = []
        pixels = Preprocess.pixels
        monkeypatch.setattr(
            Preprocess, "pixels", lambda self, s, pixels=pixels, calls=calls: calls.append(s) or pixels(self, s)
        )
        assert np.array_equal(data.cached(found, 32, tmp_path / "cache"), whole)
        monkeypatch.undo()
        assert len(calls) == (13 if cut <= 128 else 8)


def test_no_room(photographs, tmp_path, monkeypatch):
    found = data.open(photographs)
    with pytest.raises(DataError, match=r"decoded images need .* MB are free"):
        data.cached(found, 2_000_000, tmp_path / "cache")

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="decoded images need"):
        data.cached(found, 32, tmp_path / "cache")
    monkeypatch.undo()
    assert len(data.cached(found, 32, tmp_path / "cache")) == 13


def test_folders_that_cannot_be_written(photographs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        data.cached(data.open(photographs), 32, tmp_path / "file" / "cache")


def test_broken_images_are_named(photographs, tmp_path):
    (photographs / "a" / "3.jpg").write_bytes(b"no")
    with pytest.raises(DataError, match=r"3\.jpg"):
        data.cached(data.open(photographs), 32, tmp_path / "cache")


IMAGES = np.random.default_rng(1).integers(0, 256, (50, 20, 20, 3), dtype=np.uint8)
LABELS = np.array([0] * 40 + [1] * 7 + [2] * 3)
PREPROCESS = Preprocess((16, 16))


def loader(**options):
    training = {"augment": augmentation("random_resized_crop|hflip", (16, 16)), "batch_size": 8, "seed": 3}
    return data.batches(IMAGES, LABELS, PREPROCESS, **{**training, **options})


def test_evaluation_batches_are_all_images_in_order():
    found = list(loader(augment=None).epoch())
    assert [len(x) for x, _ in found] == [8] * 6 + [2]
    x, y = (torch.cat(parts) for parts in zip(*found))
    assert torch.equal(y.argmax(1), torch.from_numpy(LABELS))
    assert torch.equal(x, PREPROCESS.normalise(np.ascontiguousarray(IMAGES[:, 2:18, 2:18])))
    assert found[0][0].is_contiguous(memory_format=torch.channels_last)


def test_batches_depend_on_seed_epoch_and_step_alone():
    train = loader(mix=Mix(0.2, 1.0))
    whole = list(train.epoch(5))
    assert len(whole) == len(train) == 6
    resumed = list(loader(mix=Mix(0.2, 1.0)).epoch(5, start=4))
    assert len(resumed) == 2
    for (x, y), (again, labels) in zip(whole[4:], resumed):
        assert torch.equal(x, again)
        assert torch.equal(y, labels)
    assert not torch.equal(next(train.epoch(6))[0], whole[0][0])
    assert not torch.equal(next(loader(seed=4).epoch(5))[1], whole[0][1])


def test_each_image_once_an_epoch():
    plain = data.batches(IMAGES, LABELS, PREPROCESS, augment=augmentation("center_crop", (16, 16)), batch_size=10)
    rows = torch.cat([x for x, _ in plain.epoch()])
    assert len({row.numpy().tobytes() for row in rows}) == 50


def test_balanced_batches():
    _, y = (torch.cat(parts) for parts in zip(*loader(balanced=True, batch_size=10).epoch()))
    assert y.sum(0).sort().values.tolist() == [16, 17, 17]
    assert torch.equal(y, torch.cat([y for _, y in loader(balanced=True, batch_size=10).epoch()]))


def test_processes_share_an_epoch():
    alone = list(loader(batch_size=10).epoch(2))
    ranks = [list(loader(batch_size=5, rank=rank, world=2).epoch(2)) for rank in range(2)]
    for whole, *parts in zip(alone, *ranks):
        assert torch.equal(whole[0], torch.cat([x for x, _ in parts]))


def test_fewer_images_than_a_batch():
    assert [len(x) for x, _ in loader(batch_size=64).epoch()] == [50]
    assert [len(x) for x, _ in loader(batch_size=64, rank=1, world=2).epoch()] == [25]


def test_an_epoch_may_be_left_early():
    for _ in range(30):
        next(loader().epoch())


def test_errors_arrive():
    broken = loader(augment=augmentation("center_crop", (16, 16)))
    object.__setattr__(broken, "images", IMAGES[:, :9, :9])
    with pytest.raises(DataError, match="cannot be cropped"):
        list(broken.epoch())


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (IMAGES, LABELS[:9], {}, "do not fit"),
        (IMAGES[:0], LABELS[:0], {}, "do not fit"),
        (IMAGES, LABELS, {"classes": 2}, "labels go from 0 to 2, there are 2 classes"),
        (IMAGES[..., :1], LABELS, {}, "images have 1 channels"),
        (IMAGES, LABELS, {"augment": augmentation("", (8, 8))}, r"ends at \(8, 8\)"),
        (IMAGES, LABELS, {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_what_does_not_fit(images, labels, options, message):
    with pytest.raises(DataError, match=message):
        data.batches(images, labels, PREPROCESS, **options)
