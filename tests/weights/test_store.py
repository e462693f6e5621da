"""Networks on disk and weights into networks: everything fits, or an error says what does not."""

import json
import subprocess
import sys

import pytest
import torch
from reference import timm
from safetensors.torch import load_file, save_file
from zoo import randomise, representatives, with_slow

import opsin
from opsin.registry import facts
from opsin.weights import WeightsError, fill, load, save
from opsin.width import narrow, widths
from weights.standin import timm_config

SMALL = "mobilenetv2_035"


@pytest.fixture(scope="module")
def model():
    net = opsin.create_model(SMALL, num_classes=5).eval()
    randomise(net, 0)
    return net


def answer(net, side=64, channels=3):
    torch.manual_seed(1)
    with torch.inference_mode():
        return net(torch.randn(2, channels, side, side))


def close(a, b):
    assert (a - b).abs().max() <= 1e-5 * b.std()


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (SMALL, {"num_classes": 0}),
        ("resnet18", {"num_classes": 3, "in_chans": 5}),
        ("vit_tiny_patch16_224", {"num_classes": 4, "img_size": 64}),
        ("swin_tiny_patch4_window7_224", {"num_classes": 2}),
        ("resnet18", {"num_classes": 2, "output_stride": 16}),
    ],
)
def test_saved_networks_answer_the_same(tmp_path, name, arguments):
    net = opsin.create_model(name, **arguments).eval()
    again = load(save(net, tmp_path / "net"))
    assert not again.training
    channels = arguments.get("in_chans", 3)
    assert torch.equal(answer(net, channels=channels), answer(again, channels=channels))
    assert again.config["arguments"] == arguments
    assert sorted(item.name for item in (tmp_path / "net").iterdir()) == ["config.json", "model.safetensors"]


def test_another_process_needs_nothing_but_the_folder(tmp_path, model):
    save(model, tmp_path / "net")
    code = (
        "import opsin, torch, sys; net = opsin.load(sys.argv[1]); torch.manual_seed(1)\n"
        "with torch.inference_mode(): torch.save(net(torch.randn(2, 3, 64, 64)), sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "net", tmp_path / "out.pt"], check=True)
    close(torch.load(tmp_path / "out.pt"), answer(model))


def test_narrowed_networks_come_back(tmp_path, model):
    generator = torch.Generator().manual_seed(0)
    keep = {
        name: torch.randperm(int(width), generator=generator)[: max(1, int(width) // 2)].sort().values
        for name, width in widths(model).items()
    }
    thin = narrow(model, keep)
    save(thin, tmp_path / "net")
    told = json.loads((tmp_path / "net" / "config.json").read_text())["widths"]
    assert told == {name: len(kept) for name, kept in keep.items() if len(kept) != int(widths(model)[name])}
    again = load(tmp_path / "net")
    close(answer(thin), answer(again))  # not bit for bit: the memory of what `narrow` picked is laid out otherwise
    save(again, tmp_path / "twice")
    assert torch.equal(answer(load(tmp_path / "twice")), answer(again))


def test_config_keeps_what_came_with_the_weights(tmp_path, model):
    net = opsin.create_model(SMALL, num_classes=2)
    told = {"preprocessing": SEEN, "provenance": {"name": "mine"}, "licence": {"weights": "MIT"}, "labels": ["a", "b"]}
    net.config |= told
    again = load(save(net, tmp_path / "net"))
    assert {key: again.config[key] for key in told} == told


SEEN = {
    "size": [64, 64],
    "crop_pct": 0.9,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": [0.5] * 3,
    "std": [0.25] * 3,
    "channels": 3,
}


def test_saving_over_a_saved_network_replaces_it_and_nothing_else(tmp_path, model):
    save(opsin.create_model("resnet18", num_classes=1), tmp_path / "net")
    save(model, tmp_path / "net")
    assert load(tmp_path / "net").config["architecture"] == SMALL
    assert [item.name for item in tmp_path.iterdir()] == ["net"]
    (tmp_path / "net" / "notes.txt").touch()
    with pytest.raises(WeightsError, match="is no saved network"):
        save(model, tmp_path / "net")
    assert (tmp_path / "net" / "notes.txt").exists()


def test_what_would_not_load_is_not_saved(tmp_path, model):
    changed = opsin.create_model(SMALL, num_classes=5)
    changed.head.fc = torch.nn.Linear(changed.head.fc.in_features, 7)
    with pytest.raises(WeightsError, match=r"does not lead to its tensors; 2 differ: head\.fc\.bias"):
        save(changed, tmp_path / "net")
    with pytest.raises(WeightsError, match=r"not made by opsin\.create_model"):
        save(torch.nn.Linear(1, 1), tmp_path / "net")
    strange = opsin.create_model(SMALL)
    strange.config["labels"] = {1, 2}
    with pytest.raises(WeightsError, match="JSON"):
        save(strange, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnet999"}, "resnet"),
        ({"architecture": 3}, "names no architecture"),
        ({"architecture": "resnet18"}, "does not lead to its tensors"),
        ({"arguments": {"num_classes": 10**15}}, "more than its file could hold"),
        ({"arguments": {"num_classes": 6}}, "does not lead to its tensors"),
        ({"arguments": {"evil": 1}}, "evil"),
        ({"arguments": []}, "should be an object"),
        ({"widths": {"backbone.stem": 10**12}}, "should be a size"),
        ({"widths": {"backbone.stem": "x"}}, "should be a size"),
        ({"labels": [1, 2]}, "list of names"),
        ({"preprocessing": {**SEEN, "std": [0, 0, 0]}}, "std"),
        ({"preprocessing": {**SEEN, "size": [10**9, 4]}}, "size"),
        ({"preprocessing": {**SEEN, "mean": ["a", "b", "c"]}}, "mean"),
    ],
)
def test_hostile_configs_are_refused(tmp_path, model, changes, message):
    save(model, tmp_path / "net")
    edit(tmp_path / "net", **changes)
    with pytest.raises(opsin.OpsinError, match=message):
        load(tmp_path / "net")


ODD = [None, 3, "x", [[]], {"a": [1]}]


@pytest.mark.parametrize(
    "key", ["architecture", "arguments", "widths", "provenance", "licence", "labels", "preprocessing"]
)
def test_odd_configs_load_or_are_an_error_of_ours(tmp_path, key):
    net = opsin.create_model(SMALL, num_classes=5)
    net.config |= {"labels": list("abcde"), "preprocessing": SEEN, "licence": {}}
    save(net, tmp_path / "net")
    refused = 0
    for value in ODD:
        edit(tmp_path / "net", **{key: value})
        try:
            load(tmp_path / "net", licence="permissive" if key == "licence" else None)
        except opsin.OpsinError:
            refused += 1
    assert refused >= len(ODD) // 3


@pytest.mark.parametrize("key", ["architecture", "num_classes", "pretrained_cfg", "model_args", "label_names"])
def test_odd_configs_in_timms_layout_load_or_are_an_error_of_ours(tmp_path, model, key):
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    for value in ODD:
        (tmp_path / "config.json").write_bytes(timm_config(SMALL, 5))
        edit(tmp_path, **{key: value})
        try:
            net = load(tmp_path)
        except opsin.OpsinError:
            continue
        assert net.config["architecture"] == SMALL
        assert torch.equal(answer(net), answer(model))


def test_deep_configs_do_not_build_for_ever(tmp_path):
    save(opsin.create_model("resnet18", num_classes=2), tmp_path / "net")
    edit(tmp_path / "net", arguments={"num_classes": 2, "depths": [10**6, 1, 1, 1]})
    with pytest.raises(WeightsError, match="more than its file could hold"):
        load(tmp_path / "net")


def test_damaged_folders_are_named(tmp_path, model):
    with pytest.raises(WeightsError, match=r"no saved network: it has no config\.json"):
        load(tmp_path / "absent")
    save(model, tmp_path / "net")
    (tmp_path / "net" / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="not readable JSON"):
        load(tmp_path / "net")
    (tmp_path / "net" / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="JSON object"):
        load(tmp_path / "net")
    save(model, tmp_path / "whole")
    (tmp_path / "whole" / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="should hold one file of weights"):
        load(tmp_path / "whole")


def test_a_full_disk_leaves_the_old_network(tmp_path, model, monkeypatch):
    save(model, tmp_path / "net")
    before = (tmp_path / "net" / "model.safetensors").read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(WeightsError, match="No space left"):
        save(opsin.create_model(SMALL, num_classes=5), tmp_path / "net")
    assert (tmp_path / "net" / "model.safetensors").read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["net"]


# --------------------------------------------- into a network ---------------------------------------------


@pytest.fixture
def checkpoint(tmp_path, model):
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_a_local_file_fills_a_network(checkpoint, model):
    net = opsin.create_model(SMALL, pretrained=str(checkpoint), num_classes=5).eval()
    assert torch.equal(answer(net), answer(model))
    assert net.config["provenance"]["source"] == str(checkpoint)
    assert len(net.config["provenance"]["sha256"]) == 64


THEIRS = {facts(name)["family"]: name for name in reversed(representatives()) if timm.is_model(name)}
CLOSE = ("deit_tiny_distilled_patch16_224", "tf_efficientnet_lite0", "vit_tiny_patch16_224")
PATHS = sorted({*THEIRS.values(), *CLOSE})


@pytest.mark.parametrize("name", with_slow(PATHS, [*CLOSE, *PATHS[::3]]))
def test_checkpoints_under_timms_names_fill_every_family(tmp_path, name):
    theirs = timm.create_model(name, num_classes=7).eval()
    randomise(theirs, 0)
    torch.save({"model": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "x.pth")
    net = opsin.create_model(name, pretrained=str(tmp_path / "x.pth"), num_classes=7).eval()
    assert sums(net) == pytest.approx(sums(theirs), rel=1e-9)


def sums(net) -> list[float]:
    """A number for each parameter, whatever its name: where each has its place is proved beside timm's networks."""
    return sorted(p.double().sum().item() for p in net.parameters())


def test_another_number_of_classes_leaves_the_classifier_out_and_says_so(checkpoint, model, capsys):
    net = opsin.create_model(SMALL, num_classes=9).eval()
    before = net.head.fc.weight.clone()
    fill(net, source=str(checkpoint))
    assert "its classifier was left out; the new one, of 9 classes, starts random" in capsys.readouterr().err
    assert torch.equal(net.head.fc.weight, before)
    assert torch.equal(net.backbone.stem.conv.weight, model.backbone.stem.conv.weight)
    bare = opsin.create_model(SMALL, num_classes=0).eval()
    fill(bare, source=str(checkpoint))
    assert "this network has none" in capsys.readouterr().err


def test_auxiliary_classifiers_are_left_out_too(tmp_path, capsys):
    net = opsin.create_model("ddrnet23_slim", num_classes=3, auxiliary=True)
    torch.save(net.state_dict(), tmp_path / "x.pth")
    other = opsin.create_model("ddrnet23_slim", num_classes=4, auxiliary=True)
    fill(other, source=str(tmp_path / "x.pth"))
    assert "its classifier was left out" in capsys.readouterr().err
    assert torch.equal(other.head.auxiliary.conv1.weight, net.head.auxiliary.conv1.weight)


def test_other_input_channels_get_the_mean_filter(checkpoint, model, capsys):
    net = opsin.create_model(SMALL, pretrained=str(checkpoint), num_classes=5, in_chans=1).eval()
    assert "reads 1 channels with the mean filter" in capsys.readouterr().err
    x = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        close(net(x), model(x.expand(-1, 3, -1, -1)))


def test_positions_are_resampled_to_another_grid(tmp_path, capsys):
    big = opsin.create_model("vit_tiny_patch16_224", num_classes=2).eval()
    randomise(big, 0)
    save(big, tmp_path / "big")
    net = opsin.create_model("vit_tiny_patch16_224", num_classes=2, img_size=96).eval()
    fill(net, source=str(tmp_path / "big"))
    assert "positions resampled from 14x14 to 6x6" in capsys.readouterr().err
    x = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        close(net(x), big(x))


def test_wrong_checkpoints_are_listed_and_change_nothing(tmp_path, checkpoint, model):
    state = load_file(checkpoint)
    state["backbone.stem.conv.wieght"] = state.pop("backbone.stem.conv.weight")
    state["extra"] = torch.ones(2)
    state["head.before.norm.bias"] = torch.ones(3)
    save_file(state, tmp_path / "wrong.safetensors")
    net = opsin.create_model(SMALL, num_classes=5)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        fill(net, source=str(tmp_path / "wrong.safetensors"))
    for text in (
        "1 names are missing: backbone.stem.conv.weight",
        "2 names are unexpected: backbone.stem.conv.wieght, extra",
        "perhaps backbone.stem.conv.wieght for backbone.stem.conv.weight",
        "1 shapes differ: head.before.norm.bias is 3, not 1280",
    ):
        assert text in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_another_network_is_told_from_ours(tmp_path, checkpoint):
    with pytest.raises(WeightsError, match="does not fit this network"):
        opsin.create_model("resnet18", pretrained=str(checkpoint))
    save(opsin.create_model("resnet34", num_classes=2), tmp_path / "net")
    with pytest.raises(WeightsError, match="holds weights of resnet34, not resnet18"):
        opsin.create_model("resnet18", pretrained=str(tmp_path / "net"))


def test_pretrained_is_never_random(home, monkeypatch):
    monkeypatch.setenv("OPSIN_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"no published weight is known for 'resnet18' .*mobilenetv2_100\.tv_in1k"):
        opsin.create_model("resnet18", pretrained=True)
    with pytest.raises(WeightsError, match=r"hf-hub:timm/tf_efficientnet_lite0\.in21k is not in the cache"):
        opsin.create_model("tf_efficientnet_lite0.in21k")


def test_narrow_file_does_not_fill_a_whole_network(tmp_path, model):
    thin = narrow(model, {name: max(1, int(width) // 2) for name, width in widths(model).items()})
    save(thin, tmp_path / "thin")
    with pytest.raises(WeightsError, match="shapes differ"):
        opsin.create_model(SMALL, pretrained=str(tmp_path / "thin"), num_classes=5)


def test_import_stays_light():
    code = "import sys, opsin.weights; print({'huggingface_hub', 'rich', 'PIL', 'safetensors'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
