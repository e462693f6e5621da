"""`opsin.data.open`: every kind of source, and every way in which one can be wrong."""

import os
import sys

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

import opsin.data as data
from opsin.data import DataError, Sample


def picture(path, value=0, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255 - value)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        picture(tmp_path / "cats" / f"{i}.png", i)
        picture(tmp_path / "dogs" / "deep" / f"{i}.JPG", 100 + i)
    return tmp_path


def test_a_folder_a_class(folder):
    found = data.open(folder)
    assert found.classes == ("cats", "dogs")
    assert [s.path.name for s in found] == ["0.png", "1.png", "2.png", "0.JPG", "1.JPG", "2.JPG"]
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert {s.split for s in found} == {None}
    assert data.open(str(folder)).samples == found.samples


def test_numbered_classes_are_ordered_by_value(tmp_path):
    for name in ("10", "2", "1"):
        picture(tmp_path / name / "a.png")
    assert data.open(tmp_path).classes == ("1", "2", "10")


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_folders_of_splits(tmp_path, val):
    for part, names in {"train": "ab", val: "ab", "test": "ab"}.items():
        for name in names:
            picture(tmp_path / part / name / "x.png")
    picture(tmp_path / "more" / "a" / "x.png")
    found = data.open(tmp_path)
    assert found.classes == ("a", "b")
    assert found.splits == ("train", "val", "test")
    assert len(found.part("val")) == 2
    assert [reason for _, reason in found.skipped] == ["not a train, val or test folder"]


def test_classes_may_be_called_train_and_test(tmp_path):
    for name in ("train", "test"):
        picture(tmp_path / name / "x.png")
    assert data.open(tmp_path).classes == ("test", "train")


def table(folder, text, name="table.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table(folder):
    rows = "path,label,split,patient\ncats/0.png,cat,train,p1\ncats/1.png,cat,valid,p2\ndogs/deep/0.JPG,dog,,p1\n"
    found = data.open(table(folder, "\ufeff" + rows), group="patient")
    assert found.classes == ("cat", "dog")
    assert [s.split for s in found] == ["train", "val", None]
    assert [s.group for s in found] == ["p1", "p2", "p1"]
    assert found[0].path == folder / "cats" / "0.png"
    tabs = data.open(table(folder, rows.replace(",", "\t"), "table.tsv"))
    assert tabs.labels.tolist() == found.labels.tolist()


def test_parquet_equals_csv(folder):
    columns = {"path": ["cats/0.png", "dogs/deep/0.JPG"], "kind": ["x", "y"], "split": ["train", None]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "t.parquet")
    found = data.open(folder / "t.parquet", label="kind")
    csv = data.open(table(folder, "path,kind,split\ncats/0.png,x,train\ndogs/deep/0.JPG,y,\n"), label="kind")
    assert found.samples == csv.samples
    (folder / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        data.open(folder / "broken.parquet")


def test_parquet_without_its_reader_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (folder / "t.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"opsin\[parquet\]"):
        data.open(folder / "t.parquet")


def test_a_list(folder):
    found = data.open([(folder / "cats/0.png", "b"), (str(folder / "cats/1.png"), "a"), (folder / "cats/2.png", "b")])
    assert found.classes == ("a", "b")
    assert found.labels.tolist() == [1, 0, 1]
    again = data.open([Sample(s.path, s.label, "train") for s in found])
    assert again.splits == ("train",)


def test_missing_paths_are_one_error(folder):
    rows = "\n".join(f"no/{i}.png,{i % 2}" for i in range(9))
    with pytest.raises(DataError, match=r"9 files that do not exist: no/0.png, .*no/4.png and 4 more"):
        data.open(table(folder, f"path,label\n{rows}\ncats/0.png,1\n"))


def test_rows_without_a_label_are_reported(folder):
    found = data.open(table(folder, "path,label\ncats/0.png,a\ncats/1.png,\ncats/2.png,b\n,b\n"))
    assert len(found) == 2
    assert [reason for _, reason in found.skipped] == ["no label", "no path"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("file,label\nx,y\n", {}, r"no column 'path'; its columns are file, label"),
        ("path,label\nx,y\n", {"group": "patient"}, "no column 'patient'"),
        ("path,label,split\ncats/0.png,a,half\n", {}, "row 1: split 'half' is none of train, val, test"),
        ("", {}, "no column"),
        ("path,label\n", {}, "no labelled images"),
    ],
)
def test_wrong_tables(folder, text, options, message):
    with pytest.raises(DataError, match=message):
        data.open(table(folder, text), **options)


def test_a_table_that_is_no_text(folder):
    (folder / "t.csv").write_bytes(b"path,label\n\xff\xfe\x00")
    with pytest.raises(DataError, match="not a UTF-8 table"):
        data.open(folder / "t.csv")


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        data.open(tmp_path / "no")
    with pytest.raises(DataError, match="no labelled images"):
        data.open(tmp_path)
    with pytest.raises(DataError, match="no labelled images"):
        data.open([])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes.txt \(not an image by its name\)"):
        data.open(tmp_path)
    with pytest.raises(DataError, match="not a folder and not a table"):
        data.open(tmp_path / "a" / "notes.txt")


def test_one_class(tmp_path):
    picture(tmp_path / "cats" / "0.png")
    with pytest.raises(DataError, match="one class only, 'cats'"):
        data.open(tmp_path)


def test_wrong_rows(folder):
    with pytest.raises(DataError, match="row 1: 'abc' is not"):
        data.open(["abc"])
    with pytest.raises(DataError, match="names a column of a table"):
        data.open(folder, group="patient")


def test_questions_a_careful_reader_would_ask(folder):
    picture(folder / "Cats " / "0.png")
    notes = data.open(folder).notes
    assert any("'Cats ', 'cats' differ only in case or spaces" in note for note in notes)
    assert any("'Cats ' has one image" in note for note in notes)
    rows = [(folder / "cats/0.png", "a"), (folder / "cats/0.png", "b"), (folder / "cats/1.png", "b")]
    assert any("listed with two labels" in note for note in data.open(rows).notes)


def test_a_class_without_training_images_is_reported(tmp_path):
    for where in ("train/a", "train/b", "test/a", "test/c"):
        picture(tmp_path / where / "x.png")
    assert any("'c' has no training image" in note for note in data.open(tmp_path).notes)


def test_links(folder):
    (folder / "cats" / "again").symlink_to(folder / "cats")
    (folder / "cats" / "up").symlink_to(folder)
    (folder / "cats" / "nothing.png").symlink_to(folder / "gone.png")
    (folder / "dogs" / "more").symlink_to(folder / "cats" / "sub")
    picture(folder / "cats" / "sub" / "linked.png")
    found = data.open(folder)
    names = [s.path.name for s in found if s.label == 1]
    assert names == ["0.JPG", "1.JPG", "2.JPG", "linked.png"]
    reasons = {os.path.basename(name): reason for name, reason in found.skipped}
    assert reasons["again"] == "a link to a folder above it"
    assert reasons["nothing.png"] == "a link to nothing"


def test_hidden_and_foreign_files(folder):
    picture(folder / "cats" / ".hidden.png")
    picture(folder / ".thumbs" / "x.png")
    picture(folder / "loose.png")
    os.mkfifo(folder / "cats" / "pipe.png")
    found = data.open(folder)
    assert len(found) == 6
    assert {os.path.basename(n): why for n, why in found.skipped} == {
        "loose.png": "not in a class folder",
        "pipe.png": "not a file",
    }


def test_odd_names(tmp_path):
    odd = [b"caf\xff.png", "naïve 猫.png".encode(), b"new\nline.png", b"%s {} [b].png"]
    for name in odd:
        picture(tmp_path / "a" / "x.png").rename(
            os.path.join(os.fsencode(tmp_path / "a"), name).decode("utf-8", "surrogateescape")
        )
    picture(tmp_path / "b" / "y.png")
    found = data.open(tmp_path)
    assert len(found) == 5
    for sample in found:
        assert str(sample).isprintable()
        assert data.read_image(sample).shape == (6, 8, 3)
    assert "broken" not in str(data.card(found))


def test_parts_and_subsets(folder):
    found = data.open(folder)
    with pytest.raises(DataError, match="no 'val' images"):
        found.part("val")
    assert [s.path.name for s in found.subset(np.array([3, 0]))] == ["0.JPG", "0.png"]
