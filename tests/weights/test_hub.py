"""Weights in timm's layout on a hub, online and offline."""

import io
from dataclasses import replace

import pytest
import torch
from reference import timm
from safetensors.torch import save as encode
from zoo import randomise

import opsin
from opsin.weights import MissingWeights, WeightsError, bundle, cache, fill, load, lock, pull, unbundle, verify
from weights.standin import Hub, prefill, serve, timm_config

REPO = "someone/mobilenetv2_035.some_in1k"
X = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def answer(net):
    with torch.inference_mode():
        return net.eval()(X)


def close(a, b):
    assert (a - b).abs().max() <= 1e-5 * b.std()


@pytest.fixture(scope="module")
def theirs():
    net = timm.create_model("mobilenetv2_035", num_classes=3)
    randomise(net, 0)
    return net


@pytest.fixture
def files(theirs):
    config = timm_config("mobilenetv2_035", 3, label_names=["a", "b", "c"])
    return {"config.json": config, "model.safetensors": encode(theirs.state_dict())}


@pytest.fixture
def hub(home, tmp_path, monkeypatch):
    """A hub that the client talks to, with a client's cache of the test's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    made = Hub()
    with serve(made) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield made


def test_safetensors_come_with_all_that_is_told(hub, files, theirs):
    commit = hub.add(REPO, files)
    net = opsin.create_model("mobilenetv2_035", pretrained=f"hf-hub:{REPO}", num_classes=3)
    close(answer(net), answer(theirs))
    assert net.config["preprocessing"] == {
        "size": [160, 160],
        "crop_pct": 0.95,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "channels": 3,
    }
    assert net.config["labels"] == ["a", "b", "c"]
    assert net.config["licence"] == {"code": "Apache-2.0", "weights": "Apache-2.0", "data": None}
    assert net.config["provenance"]["revision"] == commit


@pytest.mark.parametrize("prefix", ["", "timm:"])
def test_a_name_and_a_tag_are_a_place(hub, files, theirs, prefix, monkeypatch):
    hub.add("timm/mobilenetv2_035.some_in1k", files)
    if prefix:  # where timm itself says that a tag's weights lie
        known = timm.get_pretrained_cfg("mobilenetv2_050.lamb_in1k")
        told = replace(known, hf_hub_id="timm/mobilenetv2_035.some_in1k")
        monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: told)
    net = opsin.create_model(f"{prefix}mobilenetv2_035.some_in1k", num_classes=3)
    close(answer(net), answer(theirs))
    assert net.config["preprocessing"]["size"] == [160, 160]


def test_pytorch_files_are_the_second_choice(hub, files, theirs):
    stream = io.BytesIO()
    torch.save(theirs.state_dict(), stream)
    hub.add(REPO, {"config.json": files["config.json"], "pytorch_model.bin": stream.getvalue()})
    close(answer(load(f"hf-hub:{REPO}")), answer(theirs))


def test_a_revision_is_kept(hub, files):
    old = hub.add(REPO, files, branch="v1")
    other = timm.create_model("mobilenetv2_035", num_classes=3)
    randomise(other, 1)
    hub.add(REPO, {**files, "model.safetensors": encode(other.state_dict())})
    for revision in ("v1", old):
        assert load(f"hf-hub:{REPO}@{revision}").config["provenance"]["revision"] == old
    close(answer(load(f"hf-hub:{REPO}")), answer(other))


def test_what_was_fetched_works_offline(hub, files, theirs, monkeypatch):
    hub.add(REPO, files)
    load(f"hf-hub:{REPO}")
    asked = len(hub.asked)
    monkeypatch.setenv("OPSIN_OFFLINE", "1")
    close(answer(load(f"hf-hub:{REPO}")), answer(theirs))
    assert len(hub.asked) == asked


def test_offline_with_only_a_pytorch_file_in_the_cache(hub, files, theirs, monkeypatch):
    stream = io.BytesIO()
    torch.save(theirs.state_dict(), stream)
    prefill(
        cache.folder() / "hub",
        REPO,
        {"config.json": files["config.json"], "pytorch_model.bin": stream.getvalue()},
        "c0",
    )
    monkeypatch.setenv("OPSIN_OFFLINE", "1")
    close(answer(load(f"hf-hub:{REPO}")), answer(theirs))


def test_files_put_there_by_hand_are_found(hub, files, theirs, monkeypatch):
    monkeypatch.setenv("OPSIN_OFFLINE", "1")
    with pytest.raises(MissingWeights, match=r"hf download someone/mobilenetv2_035.some_in1k") as caught:
        load(f"hf-hub:{REPO}")
    assert str(cache.folder() / "hub") in str(caught.value)
    prefill(cache.folder() / "hub", REPO, files, "c0ffee")
    net = load(f"hf-hub:{REPO}")
    close(answer(net), answer(theirs))
    assert net.config["provenance"]["revision"] == "c0ffee"


def test_a_hub_that_cannot_be_reached_says_what_to_do(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client's pauses between its attempts
    with pytest.raises(MissingWeights, match=r"cannot be reached|could not be downloaded"):
        load(f"hf-hub:{REPO}")


def test_what_is_not_there_is_named(hub, files):
    with pytest.raises(WeightsError, match="RepositoryNotFound"):
        load("hf-hub:someone/absent")
    hub.add(REPO, files)
    with pytest.raises(WeightsError, match="RevisionNotFound"):
        load(f"hf-hub:{REPO}@v9")
    hub.add("someone/empty", {"config.json": files["config.json"]})
    with pytest.raises(WeightsError, match="neither"):
        load("hf-hub:someone/empty")
    for source in ("hf-hub:nothing", "hf-hub:a/b/c", "hf-hub:../x", "hf-hub:a/..", "hf-hub:a/b@../../x"):
        with pytest.raises(WeightsError, match="is no hub source"):
            fill(opsin.create_model("mobilenetv2_035"), source=source)


def test_another_architecture_is_refused(hub, files):
    hub.add(REPO, files)
    with pytest.raises(WeightsError, match="holds weights of mobilenetv2_035, not resnet34"):
        opsin.create_model("resnet34", pretrained=f"hf-hub:{REPO}")


GOOD = timm_config("mobilenetv2_035", 3)


@pytest.mark.parametrize(
    "config",
    [
        b"{",
        b"[]",
        b"{}",
        GOOD.replace(b"0.95", b"-1"),
        GOOD.replace(b"_035", b"_999"),
        GOOD.replace(b"[3, 160", b"[null, 160"),
    ],
)
def test_hostile_configs_are_refused(hub, files, config):
    hub.add(REPO, {**files, "config.json": config})
    with pytest.raises(opsin.OpsinError):
        load(f"hf-hub:{REPO}")


def test_the_licence_is_asked_before_the_weights_are_fetched(hub, files):
    hub.add(REPO, {**files, "config.json": files["config.json"].replace(b"apache-2.0", b"cc-by-nc-4.0")})
    with pytest.raises(WeightsError, match=r"weights: CC-BY-NC-4\.0"):
        opsin.create_model("mobilenetv2_035", pretrained=f"hf-hub:{REPO}", licence="permissive")
    assert not any("model" in path.rpartition("/")[2] for path in hub.asked)


def test_the_lock_file_keeps_the_commit_and_the_bytes(hub, files, theirs, home):
    source = f"hf-hub:{REPO}"
    first = hub.add(REPO, files)
    pull([source])
    assert lock.read()[source].revision == first
    other = timm.create_model("mobilenetv2_035", num_classes=3)
    randomise(other, 1)
    hub.add(REPO, {**files, "model.safetensors": encode(other.state_dict())})
    close(answer(load(source)), answer(theirs))
    lock.write({source: lock.Pin(source, first, "0" * 64)})
    with pytest.raises(WeightsError, match="pins 0000"):
        load(source)


@pytest.mark.parametrize("form", ["carried", "carried.tar"])
def test_a_bundle_serves_a_machine_without_a_network(hub, files, theirs, tmp_path, monkeypatch, form):
    source = f"hf-hub:{REPO}"
    commit = hub.add(REPO, files)
    made = bundle([source], tmp_path / form)
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("OPSIN_LOCK", str(tmp_path / "other.lock"))
    monkeypatch.setenv("OPSIN_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf2"))
    assert [status.state for status in verify([source])] == ["missing"]
    assert [status.state for status in unbundle(made)] == ["ok"]
    net = load(source)
    close(answer(net), answer(theirs))
    assert net.config["provenance"]["revision"] == commit
    with pytest.raises(WeightsError, match="exists"):
        bundle([source], made)
