import time

import pytest
import torch
from torch import nn

from opsin.errors import OpsinError
from opsin.evaluate.latency import benchmark, compare_latency, machine, session


def small():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def test_a_module_is_measured_and_left_alone():
    model, threads = small(), torch.get_num_threads()
    got = benchmark(model, 32, batch=4, threads=1, seconds=0.2, memory=False)
    assert got["p10_ms"] <= got["latency_ms"] <= got["p90_ms"]
    assert got["throughput"] == pytest.approx(4000 / got["latency_ms"])
    assert got["params"] == 8 * 27 + 8 + 45
    assert (got["runs"] > 5, got["threads"], got["batch"]) == (True, 1, 4)
    assert model.training
    assert torch.get_num_threads() == threads


def test_peak_memory_sees_weights_and_activations():
    heavy = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 3000), nn.Unflatten(1, (3000, 1)), nn.Linear(1, 3000))
    got = benchmark(heavy, 64, batch=2, threads=1, seconds=0.01)  # 147 MB of weights, 72 MB of output
    assert 215 < got["peak_memory_mb"] < 300


def test_calls_are_compared_in_turns():
    got = compare_latency({"short": lambda: time.sleep(0.002), "long": lambda: time.sleep(0.006)}, seconds=0.3)
    assert got["short"]["ratio"] == 1
    assert got["long"]["ratio"] == pytest.approx(3, rel=0.3)
    assert got["long"]["ratio_interval"][0] <= got["long"]["ratio"] <= got["long"]["ratio_interval"][1]
    assert got["long"]["runs"] == got["short"]["runs"]


def test_an_onnx_file_is_measured(tmp_path):
    torch.onnx.export(
        small().eval(),
        (torch.zeros(2, 3, 16, 16),),
        tmp_path / "m.onnx",
        dynamo=True,
        verbose=False,
        input_names=["x"],
        dynamic_shapes=[{0: torch.export.Dim("n"), 2: torch.export.Dim("h")}],
    )
    with pytest.raises(OpsinError, match="open shape"):
        benchmark(tmp_path / "m.onnx")
    got = benchmark(tmp_path / "m.onnx", 16, batch=3, threads=1, seconds=0.1)
    assert got["latency_ms"] > 0
    assert 0 < got["peak_memory_mb"] < 100
    assert got["runtime"].startswith("onnxruntime")


def test_what_cannot_be_measured_says_why(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(OpsinError, match="cannot be run"):
        session(tmp_path / "bad.onnx")
    with pytest.raises(OpsinError, match="no file"):
        benchmark(tmp_path / "none.onnx")
    with pytest.raises(OpsinError, match="must be positive"):
        benchmark(small(), 32, batch=0)
    with pytest.raises(OpsinError, match="nothing to compare"):
        compare_latency({})
    assert machine()["cores"] >= 1
