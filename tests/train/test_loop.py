"""The loop: it learns, keeps the best, fits its time, and tells what is wrong."""

import json
import math
import time

import numpy as np
import pytest
import torch

import opsin
from opsin.train import TrainError, finetune, loop
from train.task import SETTINGS, SIDE, Net, digest, images

VAL = images(30, 1, SIDE)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(folder, model=None, settings=SETTINGS, **options):
    model = model or Net()
    history = finetune(
        model, options.pop("train", images()), options.pop("val", VAL), settings, run_folder=folder, **options
    )
    return model, history


def test_it_learns_and_keeps_the_best(tmp_path):
    lines = []
    model, history = run(tmp_path, settings=SETTINGS.changed({"epochs": 12}), log=lines.append)
    records = history["epochs"]
    assert len(records) == 12
    assert records[-1]["loss"] < records[0]["loss"]
    assert history["best"]["val_accuracy"] == max(r["val_accuracy"] for r in records) > 0.8
    assert json.loads(json.dumps(history)) == history
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == records
    assert sum("epoch" in line and "log loss" in line for line in lines) == 12
    assert not model.training
    x = torch.from_numpy(VAL[0]).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        right = (model((x - 0.5) / 0.25).argmax(1).numpy() == VAL[1]).mean()
    assert right == pytest.approx(history["best"]["val_accuracy"])


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "ema": 0.0},
        {"balance": "sampling", "clip": 0.0},
        {"freeze_norm": True, "balance": "weights"},
    ],
)
def test_switches(tmp_path, changes):
    model = Net()
    before = model.norm.running_mean.clone()
    _, history = run(tmp_path, model, SETTINGS.changed({"epochs": 6, **changes}))
    assert history["epochs"][-1]["loss"] < history["epochs"][0]["loss"]
    assert torch.equal(model.norm.running_mean, before) == bool(changes.get("freeze_norm"))


def test_equal_seeds_give_equal_weights(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    model = Net()
    torch.manual_seed(5)
    first, _ = run(tmp_path / "a", model, seed=1)
    assert torch.equal(torch.rand(3), expected), "the caller's random numbers go on as if nothing had been"
    np.random.seed(9)
    assert digest(run(tmp_path / "b", seed=1)[0]) == digest(first)
    assert digest(run(tmp_path / "c", seed=2)[0]) != digest(first)


class Interrupted(Net):
    """Ctrl-C comes in one of its forward passes."""

    left = 0

    def forward(self, x):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().forward(x)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd", "ema": 0.0}, {"checkpoint_seconds": 1000.0}])
def test_interrupted_and_resumed_is_the_same_as_unbroken(tmp_path, changes):
    settings = SETTINGS.changed(changes)
    whole, history = run(tmp_path / "whole", settings=settings)
    rng = np.random.default_rng()
    for i, moment in enumerate(rng.integers(8, 40, 3)):  # four epochs are 4 * (6 + 2) passes, measuring a few before
        folder = tmp_path / str(i)
        model = Interrupted()
        model.left = int(moment)
        try:
            run(folder, model, settings)
        except KeyboardInterrupt:
            model, again = run(folder, Net(), settings, resume=True)
        else:
            continue
        assert digest(model) == digest(whole), f"interrupted at pass {moment}"
        for record, expected in zip(again["epochs"], history["epochs"], strict=True):
            assert {**record, "seconds": 0} == {**expected, "seconds": 0}


def test_a_finished_run_is_not_trained_again(tmp_path):
    model, history = run(tmp_path)
    again, told = run(tmp_path, resume=True)
    assert digest(again) == digest(model)
    assert told == history


def test_a_used_folder_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(TrainError, match="holds a training run already; resume it"):
        run(tmp_path)
    for options, name in (
        ({"settings": SETTINGS.changed({"lr": 0.1})}, "settings"),
        ({"seed": 7}, "seed"),
        ({"train": images(90)}, "training images"),
        ({"val": images(33, 1, SIDE)}, "validation images"),
    ):
        with pytest.raises(TrainError, match=f"other {name};"):
            run(tmp_path, resume=True, **options)


@pytest.mark.parametrize("name", ["last.safetensors", "plan.json"])
def test_broken_files_are_named(tmp_path, name):
    run(tmp_path)
    (tmp_path / name).write_bytes(b"no")
    with pytest.raises(TrainError, match=name):
        run(tmp_path, resume=True)


def test_time_is_kept(tmp_path):
    model = Net()
    model.slow = 0.05
    start = time.monotonic()
    _, history = run(tmp_path, model, SETTINGS.changed({"epochs": 1000}), deadline=6.0)
    assert 1.5 < time.monotonic() - start < 9
    plan = history["plan"]
    assert 1 <= len(history["epochs"]) <= plan["epochs"] < 20  # fewer where the machine slows down meanwhile
    assert plan["measured"]["fp32"] > 0.05


def test_less_than_an_epoch(tmp_path):
    model = Net()
    model.slow = 0.2
    _, history = run(tmp_path, model, deadline=2.5)
    assert history["plan"]["epochs"] == 1
    assert history["plan"]["steps"] < 6


class Sick(Net):
    """Its answers are not numbers in some of the forward passes in training."""

    passes, sick = 0, range(0)

    def forward(self, x):
        self.passes += self.training
        return super().forward(x) * (math.nan if self.passes in self.sick else 1)


def test_divergence_is_tried_once_more_at_a_lower_rate(tmp_path):
    lines = []
    model = Sick()
    model.sick = range(15, 16)
    _, history = run(tmp_path, model, log=lines.append)
    assert any("loss nan" in line and "starting again at 0.1 of the rate" in line for line in lines)
    assert len(history["epochs"]) == 4
    assert all(torch.isfinite(t).all() for t in model.state_dict().values())


def test_divergence_twice_is_an_error(tmp_path):
    model = Sick()
    model.sick = range(10, 1000)
    with pytest.raises(TrainError, match=r"step \d+: loss nan, gradient nan, at a learning rate of .*; set a lower lr"):
        run(tmp_path, model)


def test_no_memory(tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(loop.Run, "gradient", full)
    with pytest.raises(TrainError, match="no memory for batches of 16; set batch_size=8"):
        run(tmp_path)


def test_no_room_keeps_the_last_good_state(tmp_path, monkeypatch):
    import errno

    from opsin.train import checkpoint

    real, calls = checkpoint.os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(TrainError, match="the state before is kept; free space on that disk, then resume"):
        run(tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*"))
    model, _ = run(tmp_path, resume=True)
    assert digest(model) == digest(run(tmp_path.parent / "whole")[0])


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainError, match="cannot write"):
        run(tmp_path / "file" / "run")


def test_bf16_trains(tmp_path):
    model, history = run(tmp_path, settings=SETTINGS.changed({"precision": "bf16"}))
    assert history["plan"]["bf16"]
    assert all(t.dtype != torch.bfloat16 for t in model.state_dict().values())
    assert history["epochs"][-1]["loss"] < history["epochs"][0]["loss"]


def test_a_real_network(tmp_path):
    import opsin

    model = opsin.create_model("mobilenetv2_050", num_classes=3)
    model.config["preprocessing"] = {"size": [32, 32], "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.25] * 3}
    settings = SETTINGS.changed({"epochs": 4, "mixup": 0.0, "cutmix": 0.0, "ema": 0.0, "lr": 1e-3, "augment": "hflip"})
    _, history = run(tmp_path, model, settings, train=images(side=36), val=images(30, 1, 32))
    assert history["epochs"][-1]["loss"] < history["epochs"][0]["loss"]


def test_frozen_stages_stay_and_are_free_afterwards(tmp_path):
    net = opsin.create_model("mobilenetv2_035", num_classes=3)
    net.config["preprocessing"] = Net().config["preprocessing"] | {"size": [32, 32]}
    before = {name: t.clone() for name, t in net.state_dict().items()}
    settings = SETTINGS.changed({"epochs": 1, "freeze": 8, "freeze_norm": True, "ema": 0.0, "lr": 1e-2})
    run(tmp_path, net, settings, train=images(32, side=32), val=images(30, 1, 32))
    changed = {name.split(".")[2] for name, t in net.state_dict().items() if not torch.equal(t, before[name])}
    assert {name for name in changed if name.isdigit()} == {"3", "4", "5", "6"}
    assert all(p.requires_grad for p in net.parameters())
