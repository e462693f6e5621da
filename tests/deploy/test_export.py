import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pictures import PICTURES, RECORD
from PIL import Image
from torch import nn

from opsin.data import Preprocess
from opsin.deploy import export as exporting
from opsin.deploy.export import ExportError, export, torch_answers
from opsin.deploy.graph import prepend_resize
from opsin.deploy.runtimes import Runtime
from opsin.errors import OpsinError
from opsin.width import Width

NAMES = ["cat", "dög <b>", "eel"]


def network():
    torch.manual_seed(0)
    dim = Width(8, "dim")
    model = nn.Sequential(
        nn.Conv2d(3, dim, 3, 2, 1, bias=False),
        nn.BatchNorm2d(dim),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(dim, 3),
    )
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
    wanted = by_hand([Preprocess.from_dict(RECORD).pixels(p) for p in PICTURES], 1.7)
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
    wanted = by_hand([Preprocess.from_dict(RECORD).pixels(p) for p in PICTURES], 1)
    assert np.abs(runtime.predict(PICTURES) - wanted).max() < 5e-3
    assert runtime.run(np.stack([PICTURES[2], PICTURES[7]])).shape == (2, 3)
    assert (runtime.predict([Image.fromarray(p) for p in PICTURES]) == runtime.predict(PICTURES)).all()


def test_the_file_names_nothing_of_the_machine_and_folds_the_norms(fixed):
    proto = onnx.load(fixed.path)
    onnx.checker.check_model(proto)
    assert b".py" not in proto.SerializeToString()
    kinds = [node.op_type for node in proto.graph.node]
    assert "BatchNormalization" not in kinds[kinds.index("Conv") :]  # the one before is the preprocessing
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "no images"),
        ({"images": [PICTURES[0][..., :2]]}, "has 2 bands"),
        ({"images": [PICTURES[0].astype(np.uint16)]}, "8 bits a channel"),
        ({"labels": ["a"]}, "1 labels for a model of 3"),
        ({"preprocessing": {}}, "preprocessing needs size"),
        ({"preprocessing": {**RECORD, "crop_mode": "border"}, "any_size": True}, "any_size=False"),
        ({"preprocessing": {**RECORD, "size": [48, 40]}, "any_size": True}, "any_size=False"),
        ({"preprocessing": {**RECORD, "mean": [0.5]}}, "give one each"),
    ],
)
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
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_the_resize_in_the_graph_is_the_one_beside_it(mode, interpolation):
    prepare = Preprocess.from_dict({**RECORD, "crop_mode": mode, "interpolation": interpolation})
    pixels = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["batch", 48, 48, 3])
    same = onnx.helper.make_node("Identity", ["pixels"], ["out"])
    out = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.UINT8, ["batch", 48, 48, 3])
    proto = onnx.helper.make_model(
        onnx.helper.make_graph([same], "g", [pixels], [out]),
        ir_version=10,
        opset_imports=[onnx.helper.make_opsetid("", 20)],
    )
    prepend_resize(proto, prepare)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for picture in PICTURES:
        difference = np.abs(session.run(None, {"images": picture[None]})[0][0].astype(int) - prepare.pixels(picture))
        assert difference.max() <= 2
        assert difference.mean() < 0.25  # a shift of half a pixel makes it several levels


def test_files_on_disk_are_read_upright(tmp_path, fixed):
    paths = []
    for i, pixels in enumerate(PICTURES):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    turned = Image.Exif()
    turned[0x0112] = 6  # shown a quarter to the right
    Image.fromarray(np.rot90(PICTURES[0])).save(tmp_path / "turned.png", exif=turned)
    runtime = Runtime(fixed.path)
    assert np.array_equal(runtime.predict(paths), runtime.predict(PICTURES))
    assert np.array_equal(runtime.predict([tmp_path / "turned.png"]), runtime.predict(PICTURES[:1]))
    assert runtime.predict([]).shape == (0, 3)
