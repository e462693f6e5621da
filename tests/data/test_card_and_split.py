"""What a dataset is found to hold, and how it is divided."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import opsin.data as data
from opsin.data import DataError


def fill(folder, counts, seed=0):
    """Folders of random pictures, `counts` by class."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (4 + i % 3, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03}.png")
    return folder


def test_the_card_counts(tmp_path):
    fill(tmp_path / "train", {"a": 6, "b": 2})
    fill(tmp_path / "test", {"a": 2, "b": 2}, seed=1)
    shutil.copy(tmp_path / "train/a/000.png", tmp_path / "train/b/copy.png")  # another label, and a duplicate
    Image.open(tmp_path / "train/a/001.png").save(tmp_path / "test/a/leak.bmp")  # other bytes, same pixels
    (tmp_path / "train/a/cut.png").write_bytes((tmp_path / "train/a/002.png").read_bytes()[:60])
    card = data.card(data.open(tmp_path))
    assert card.images == 15
    assert card.counts == {"a": {"train": 7, "test": 3}, "b": {"train": 3, "test": 2}}
    assert card.height == (4, 5.0, 6)
    assert card.width == (6, 6.0, 6)
    assert card.formats == {"PNG": 14, "BMP": 1}
    assert card.pixels == {"3 x uint8": 14}
    assert card.balance == pytest.approx(5 / 15 * 2)
    assert sorted(len(group) for group in card.duplicates) == [2, 2]
    assert len(card.conflicts) == 1
    assert card.conflicts[0][1].endswith("copy.png")
    assert card.leakage == {"train/test": {"images": 1, "groups": 0}}
    assert len(card.broken) == 1
    assert card.broken[0][0].endswith("cut.png")
    assert json.loads(json.dumps(card.to_dict()))["counts"] == card.counts
    text = str(card)
    for words in (
        "15 images, 2 classes",
        "same pixels, different labels: 1",
        "leakage train/test: 1 images",
        "broken: 1",
    ):
        assert words in text


def test_grey_stored_as_colour_is_a_duplicate(tmp_path):
    fill(tmp_path, {"a": 2, "b": 2})
    grey = Image.open(tmp_path / "a/000.png").convert("L")
    grey.save(tmp_path / "a/grey.png")
    grey.convert("RGB").save(tmp_path / "b/colour.png")
    assert len(data.card(data.open(tmp_path)).conflicts) == 1


def sides(found):
    return {name: np.bincount(found.part(name).labels, minlength=len(found.classes)).tolist() for name in found.splits}


def test_splits_are_stratified_and_repeatable(tmp_path):
    found = data.open(fill(tmp_path, {"a": 40, "b": 20, "c": 3}))
    first = data.split(found, val=0.2, test=0.1, seed=1)
    assert sides(first) == {"train": [28, 14, 1], "val": [8, 4, 1], "test": [4, 2, 1]}
    assert data.split(found, val=0.2, test=0.1, seed=1) == first
    assert data.split(found, val=0.2, test=0.1, seed=2) != first
    assert data.split(found, val=0, test=0.25).splits == ("train", "test")


def test_duplicates_stay_together(tmp_path):
    fill(tmp_path, {"a": 12, "b": 12})
    for i in range(12):
        for copy in range(2):
            Image.open(tmp_path / f"a/{i:03}.png").save(tmp_path / f"a/{i:03}-{copy}.bmp")
    found = data.open(tmp_path)
    for seed in range(5):
        done = data.split(found, val=0.25, test=0.25, seed=seed)
        assert not any(shared["images"] for shared in data.card(done).leakage.values())
        assert sides(done) == {"train": [18, 6], "val": [9, 3], "test": [9, 3]}


def test_groups_stay_together(tmp_path):
    fill(tmp_path, {"a": 30, "b": 30})
    rows = [f"{name}/{i:03}.png,{name},p{i // 3}" for name in "ab" for i in range(30)]
    (tmp_path / "t.csv").write_text("path,label,patient\n" + "\n".join(rows))
    found = data.open(tmp_path / "t.csv", group="patient")
    for seed in range(5):
        done = data.split(found, val=0.2, test=0.2, seed=seed)
        assert sides(done) == {"train": [18, 18], "val": [6, 6], "test": [6, 6]}
        assert not any(shared["groups"] for shared in data.card(done).leakage.values())


def test_given_splits_are_kept(tmp_path):
    fill(tmp_path / "train", {"a": 20, "b": 20})
    fill(tmp_path / "test", {"a": 5, "b": 5}, seed=1)
    found = data.open(tmp_path)
    done = data.split(found, val=0.25, test=0.25)
    assert sides(done) == {"train": [15, 15], "val": [5, 5], "test": [5, 5]}
    assert {s.path for s in done.part("test")} == {s.path for s in found.part("test")}


def test_an_image_alone_in_its_class_is_trained_on(tmp_path):
    done = data.split(data.open(fill(tmp_path, {"a": 10, "b": 1})), val=0.2, test=0.2)
    assert sides(done)["train"][1] == 1


def test_broken_images_are_left_out(tmp_path):
    fill(tmp_path, {"a": 8, "b": 8})
    (tmp_path / "a/000.png").write_bytes(b"no")
    done = data.split(data.open(tmp_path))
    assert len(done) == 15
    assert done.skipped[0][0].endswith("000.png")
    for path in tmp_path.glob("*/*.png"):
        path.write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 16 images"):
        data.split(data.open(tmp_path))


def test_splits_that_cannot_be(tmp_path):
    found = data.open(fill(tmp_path, {"a": 2, "b": 2}))
    for shares in ({"val": -0.1}, {"val": 0.5, "test": 0.5}, {"test": 1.0}):
        with pytest.raises(DataError, match="must be shares"):
            data.split(found, **shares)
    with pytest.raises(DataError, match=r"4 images .* too few .* set val=0"):
        data.split(found, val=0.1, test=0.1)
    fill(tmp_path / "test", {"a": 2, "b": 2})
    only = [(path, path.parent.name, "test", None) for path in (tmp_path / "test").glob("*/*.png")]
    with pytest.raises(DataError, match="no images to train on"):
        data.split(data.open(only))
