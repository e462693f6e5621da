import json

import numpy as np
import onnx
import pytest
import torch
from pictures import PICTURES, RECORD
from PIL import Image
from torch import nn

from opsin.deploy import export as exporting
from opsin.deploy.export import ExportError, export, torch_answers
from opsin.evaluate.pixels import cropped
from opsin.deploy.runtimes import Runtime
from opsin.errors import OpsinError
from opsin.width import Width

NAMES = ["cat", "dög <b>", "eel"]


def network():
    torch.manual_seed(0)
    dim = Width(8, "dim")
    model = nn.Sequential(nn.Conv2d(3, dim, 3, 2, 1, bias=False), nn.BatchNorm2d(dim), nn.ReLU(),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(dim, 3))
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    model.config = {"preprocessing": RECORD, "labels": NAMES, "licence": {"weights": "MIT"}}
    return model


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model.onnx"
    return export(network(), path, images=PICTURES, temperature=1.7, facts={"data": "shapes"}, seconds=0.05)


@pytest.fixture(scope="module")
def free(tmp_path_factory):
    path = tmp_path_factory.mktemp("free") / "model.onnx"
    return export(network(), path, images=PICTURES, any_size=True, tolerance=5e-3, seconds=0.05)


def by_hand(pixels, temperature):
    x = (np.stack(pixels) / 255 - RECORD["mean"]) / RECORD["std"]
    with torch.no_grad():
        return (network().eval()(torch.tensor(x).permute(0, 3, 1, 2).float()) / temperature).softmax(1).numpy()


def test_the_file_gives_torchs_answers_and_holds_all_it_needs(fixed):
    runtime = Runtime(fixed.path)
    wanted = by_hand([cropped(p, RECORD) for p in PICTURES], 1.7)
    assert np.abs(runtime.predict(PICTURES) - wanted).max() < 1e-5
    assert np.abs(runtime.predict(PICTURES, batch=2) - wanted).max() < 1e-5
    assert fixed.max_difference < 1e-5
    assert (fixed.agreement, fixed.images) == (1, len(PICTURES))
    assert 0 < fixed.latency_ms <= fixed.p90_ms
    assert runtime.labels == NAMES
    assert runtime.preprocessing == RECORD
    assert runtime.facts["licence"] == {"weights": "MIT"}
    assert (runtime.facts["data"], runtime.facts["temperature"]) == ("shapes", 1.7)
    json.dumps(fixed.as_dict())


def test_the_file_can_resize_by_itself(free):
    runtime = Runtime(free.path)
    assert (free.any_size, runtime.any_size) == (True, True)
    assert np.abs(runtime.predict(PICTURES) - by_hand([cropped(p, RECORD) for p in PICTURES], 1)).max() < 5e-3
    assert runtime.run(np.stack([PICTURES[2], PICTURES[7]])).shape == (2, 3)


def test_the_file_names_nothing_of_the_machine_and_folds_the_norm(fixed):
    proto = onnx.load(fixed.path)
    onnx.checker.check_model(proto)
    assert b".py" not in proto.SerializeToString()
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    assert not any(tensor.external_data for tensor in proto.graph.initializer)


def test_a_folder_with_a_model_is_a_runtime_too(fixed):
    from pathlib import Path

    assert Runtime(Path(fixed.path).parent).labels == NAMES


@pytest.mark.parametrize("any_size", [False, True])
def test_other_answers_leave_no_file(tmp_path, monkeypatch, any_size):
    wrong = lambda *a, **k: torch_answers(*a, **k)[:, ::-1]
    monkeypatch.setattr(exporting, "torch_answers", wrong)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"an older export")
    with pytest.raises(ExportError, match=r"other answers.*removed" + any_size * ".*any_size=False"):
        export(network(), path, images=PICTURES, any_size=any_size)
    assert path.read_bytes() == b"an older export"
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_answers_that_are_no_numbers_are_no_proof(tmp_path):
    model = network()
    model[5].bias.data[0] = torch.nan
    with pytest.raises(ExportError, match="other answers"):
        export(model, tmp_path / "m.onnx", images=PICTURES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "message"), [
    ({"images": []}, "no images"),
    ({"images": [PICTURES[0][..., :1]]}, r"takes uint8 \(H, W, 3\)"),
    ({"labels": ["a"]}, "1 labels for a model of 3"),
    ({"preprocessing": {}}, "preprocessing size None"),
    ({"preprocessing": {**RECORD, "crop_mode": "border"}}, "cannot be exported"),
    ({"preprocessing": {**RECORD, "size": [48, 40]}}, "not square"),
    ({"preprocessing": {**RECORD, "mean": [0.5]}}, "one a channel"),
])
def test_what_cannot_be_exported_says_why(tmp_path, change, message):
    model = network()
    if change.get("preprocessing") == {}:
        model.config = {}
    with pytest.raises(OpsinError, match=message):
        export(model, tmp_path / "m.onnx", **{"images": PICTURES, **change})


def test_files_that_are_no_models_of_ours(tmp_path, fixed):
    with pytest.raises(OpsinError, match="no file"):
        Runtime(tmp_path)
    proto = onnx.load(fixed.path)
    for note in proto.metadata_props:
        if note.key == "opsin.labels":
            note.value = "[" * 100_000
    (tmp_path / "bad.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(OpsinError, match=r"opsin\.labels cannot be read"):
        Runtime(tmp_path / "bad.onnx")
    del proto.metadata_props[:]
    (tmp_path / "bare.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(OpsinError, match="neither its labels"):
        Runtime(tmp_path / "bare.onnx")


@pytest.mark.parametrize("mode", ["center", "squash"])
def test_the_crop_is_that_of_a_plain_resize_and_crop(mode):
    record = {**RECORD, "crop_mode": mode}
    for pixels in PICTURES:
        h, w = pixels.shape[:2]
        image = Image.fromarray(pixels)
        if mode == "squash":
            wanted = image.resize((48, 48), Image.Resampling.BICUBIC)
        else:
            size = (56, int(56 * h / w)) if w < h else (int(56 * w / h), 56)
            image = image.resize(size, Image.Resampling.BICUBIC)
            left, top = round((size[0] - 48) / 2), round((size[1] - 48) / 2)
            wanted = image.crop((left, top, left + 48, top + 48))
        assert np.array_equal(cropped(pixels, record), np.asarray(wanted))
