"""Files in 8 bits: smaller, near torch's answers, and refused where they are not."""

import onnx
import pytest
from pictures import PICTURES, RECORD
from zoo import randomise

import opsin
from opsin.deploy import export as exporting
from opsin.deploy.export import ExportError, export
from opsin.deploy.runtimes import Runtime


@pytest.fixture(scope="module")
def net():
    made = opsin.create_model("mobilenetv2_035", num_classes=3).eval()
    randomise(made)
    made.config["preprocessing"] = RECORD
    return made


def test_a_quarter_of_the_size_and_the_same_answers(net, tmp_path):
    whole = export(net, tmp_path / "whole.onnx", images=PICTURES, seconds=0.05)
    small = export(net, tmp_path / "small.onnx", images=PICTURES, calibration=PICTURES, agreement=0.5, seconds=0.05)
    assert (whole.precision, small.precision) == ("fp32", "int8")
    assert small.size_mb < 0.4 * whole.size_mb
    assert small.mean_difference < 0.05
    assert Runtime(small.path).predict(PICTURES).shape == (len(PICTURES), 3)
    kinds = [node.op_type for node in onnx.load(small.path).graph.node]
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(kinds)
    before = set(kinds[: kinds.index("Conv")])
    assert "BatchNormalization" in before
    assert not before & {"Mul", "Add"}  # with channels last, as there, these take as long as ten convolutions


def test_other_answers_are_refused(net, tmp_path, monkeypatch):
    spoiled = lambda proto, pixels: exporting.converted(exporting.Probabilities(backwards(net), 1.0), RECORD)
    monkeypatch.setattr(exporting, "quantised", spoiled)
    with pytest.raises(ExportError, match="at least 95%"):
        export(net, tmp_path / "small.onnx", images=PICTURES, calibration=PICTURES, seconds=0.05)
    assert not list(tmp_path.iterdir())


def backwards(net):
    """The network with its answers turned round."""
    made = opsin.create_model("mobilenetv2_035", num_classes=3).eval()
    made.load_state_dict({k: -v if k.startswith("head.fc") else v for k, v in net.state_dict().items()})
    return made
