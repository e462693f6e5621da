"""A whole run on generated pictures, and what users do with it afterwards."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

import opsin
from opsin import verbs
from opsin.data import Preprocess
from opsin.deploy.runtimes import Runtime

# A small network from random weights: what is learned in two epochs does not matter here, that all steps join up does.
SMALL = ["--model", "mobilenetv2_035", "--set", "size=64", "--set", "train.epochs=2", "--set", "train.batch_size=16"]


def command(*arguments, env=None):
    full = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return [sys.executable, "-m", "opsin", *map(str, arguments)], full


def run(*arguments, env=None):
    words, full = command(*arguments, env=env)
    return subprocess.run(words, env=full, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a finished run and what its command printed."""
    folder = tmp_path_factory.mktemp("run") / "shapes"
    made = run("fit", "demo:shapes", "--under", "1s", "--under", "20MB", *SMALL, "--out", folder, "--json")
    assert made.returncode == 0, made.stderr
    return folder, json.loads(made.stdout), made.stderr


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (40 + i, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return folder


def test_the_run_holds_all_that_was_promised(done):
    folder, told, log = done
    names = {p.name for p in folder.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "model", "model.onnx", "report.html", "steps"} <= names
    assert {p.name for p in (folder / "model").iterdir()} == {"model.safetensors", "config.json"}
    assert told["test"]["count"] == 32
    assert told["proof"]["max_difference"] <= 1e-3
    assert [limit["kept"] for limit in told["limits"]] == [True, True]
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps[0] == "probe"
    assert steps[-1] == "test"
    assert "8. Exporting" in log


def test_timms_models_run_and_are_kept_as_ours(tmp_path):
    small = ["--set", "size=64", "--set", "train.epochs=1", "--set", "train.batch_size=32"]
    made = run("fit", "demo:shapes", "--model", "timm:resnet10t", *small, "--out", tmp_path / "run", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["proof"]["agreement"] == 1
    assert run("explain", tmp_path / "run", tmp_path / "run").returncode == 1  # no pictures there


def test_the_report_stands_alone(done):
    text = (done[0] / "report.html").read_text()
    assert "mobilenetv2_035" in text
    assert "<script" not in text
    assert 'src="http' not in text
    assert "circle" in text


def test_the_test_images_were_never_trained_on(done):
    parts = json.loads((done[0] / "steps" / "data.json").read_text())["parts"]
    train, val, test = (set(parts[name]) for name in ("train", "val", "test"))
    assert not (train | val) & test
    assert not train & val


def test_saved_network_and_exported_file_answer_alike(done):
    folder = done[0]
    net, runtime = opsin.load(folder / "model"), Runtime(folder)
    # Of the size that a picture is resized to: Pillow rounds what it resizes to whole levels, the file does not.
    size = runtime.prepare.resized
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    x = Preprocess.from_dict(net.config["preprocessing"])(pixels)[None]
    with torch.no_grad():
        expected = (net(x) / runtime.facts["temperature"]).softmax(1).numpy()
    assert abs(runtime.predict([pixels]) - expected).max() < 1e-4
    assert runtime.labels == net.config["labels"] == ["circle", "cross", "square", "triangle"]


def test_predict_says_what_it_cannot_read(done, photos):
    made = run("predict", done[0], photos, "--json", "--top", 2)
    rows = json.loads(made.stdout)
    assert made.returncode == 0
    assert len(rows) == 4
    assert [("error" in row) for row in rows] == [False, False, False, True]
    assert len(rows[0]["top"]) == 2
    assert "broken.jpg" in rows[3]["error"]


def test_predict_of_nothing_readable_fails(done, photos):
    made = run("predict", done[0], photos / "broken.jpg")
    assert made.returncode == 1


def test_evaluate_and_explain(done, photos, tmp_path):
    made = verbs.evaluate(done[0], "demo:shapes")
    assert made["count"] == 120
    drawn = verbs.explain(done[0], [photos / "0.png"], out=tmp_path)
    assert [p.suffix for p in drawn] == [".png"]
    assert Image.open(drawn[0]).size == (64, 64)


def test_a_second_run_does_not_overwrite(done):
    made = run("fit", "demo:shapes", *SMALL, "--out", done[0])
    assert made.returncode == 1
    assert "--resume" in made.stderr
    assert "Traceback" not in made.stderr


def test_resuming_a_finished_run_changes_nothing(done):
    before = (done[0] / "model.onnx").read_bytes()
    made = run("fit", "demo:shapes", "--out", done[0], "--resume", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout) == done[1]
    assert (done[0] / "model.onnx").read_bytes() == before


def test_a_file_that_misses_its_limit_is_timed_again(done, tmp_path, monkeypatch, capfd):
    folder = shutil.copytree(done[0], tmp_path / "again")
    for step in ("export", "report"):
        (folder / "steps" / f"{step}.json").unlink()
    busy = {"latency_ms": 5e3, "p90_ms": 6e3}
    monkeypatch.setattr(import_module("opsin.deploy.export"), "quietest", lambda *_: busy)
    monkeypatch.setattr("opsin.runs.run.PAUSES", (0, 0))
    made = opsin.fit("demo:shapes", out=folder, resume=True)
    assert capfd.readouterr().err.count("5000.00 ms a picture: timing the file again") == 1
    assert made["proof"]["latency_ms"] < made["proof"]["p90_ms"] < 1e3
    assert all(limit["kept"] for limit in made["limits"])


@pytest.mark.parametrize("seconds", [9, 14])
def test_killed_and_resumed_gives_the_same_model(done, tmp_path, seconds):
    folder = tmp_path / "again"
    words, env = command("fit", "demo:shapes", "--under", "1s", "--under", "20MB", *SMALL, "--out", folder)
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    started = (folder / "config.yaml").is_file()
    made = run("fit", "demo:shapes", *([] if started else SMALL), "--out", folder, *(["--resume"] if started else []))
    assert made.returncode == 0, made.stderr
    ours, theirs = (load_file(f / "model" / "model.safetensors") for f in (folder, done[0]))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--under", "0.0001ms"], "nearest"),
        (["--under", "5 bananas"], "5ms"),
        (["--model", "mobilenetv9"], "mobilenetv2"),
        (["--set", "trian.lr=1"], "train"),
        (["--model", "auto", "--licence", "GPL-3.0-only"], "licence"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(tmp_path, arguments, word):
    given = arguments if "--model" in arguments else [*SMALL, *arguments]
    made = run("fit", "demo:shapes", "--out", tmp_path / "x", *given)
    assert made.returncode == 1
    assert word in made.stderr
    assert "Traceback" not in made.stderr


def test_hopeless_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "a").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "one" / "a" / "1.png")
    for name in ("empty", "one", "missing"):
        made = run("fit", tmp_path / name, "--out", tmp_path / "out")
        assert made.returncode == 1
        assert str(tmp_path / name) in made.stderr
        assert "Traceback" not in made.stderr
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_python_is_the_command_line(done, tmp_path):
    assert opsin.fit is verbs.fit
    assert Path(opsin.info(str(done[0]))["name"]) == done[0] / "model"
