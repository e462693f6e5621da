"""Loss, schedule, average, optimizer groups, settings and recipes, each by itself."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from opsin.data import augmentation
from opsin.train import TrainError, TrainSettings, checkpoint, optim, plan, recipes
from opsin.train.ema import Ema
from opsin.train.loss import class_weights, soft_cross_entropy
from opsin.train.schedule import rate
from train.task import Net


def test_loss_equals_torch():
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 5), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    hot = functional.one_hot(labels, 5).float()
    for smoothing in (0.0, 0.1):
        expected = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        assert torch.allclose(soft_cross_entropy(logits, hot, smoothing), expected)
    weights = torch.rand(5)
    assert torch.allclose(
        soft_cross_entropy(logits, hot, 0.0, weights), functional.cross_entropy(logits, labels, weights)
    )
    mixed = torch.rand(7, 5).softmax(1)
    assert torch.allclose(soft_cross_entropy(logits, mixed), functional.cross_entropy(logits, mixed))


def test_class_weights():
    labels = np.array([0] * 90 + [1] * 10)
    weights = class_weights(labels, 2, "weights")
    assert weights[1] / weights[0] == pytest.approx(3)
    assert float(weights[labels].mean()) == pytest.approx(1)
    assert torch.equal(class_weights(labels, 2, "auto"), weights)
    assert class_weights(np.array([0, 0, 1]), 2, "auto") is None
    assert class_weights(labels, 2, "none") is class_weights(labels, 2, "sampling") is None
    assert torch.isfinite(class_weights(labels, 3, "weights")).all()


def test_schedule():
    rates = [rate(step, 100, 0.1, 0.01) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates.index(max(rates)) == 10
    assert rates[10] == 1
    assert rates[99] == pytest.approx(0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert [rate(0, 1), rate(0, 1, 0.0)] == [1, 1]
    assert all(0 < rate(step, total, 0.1, 0.01) <= 1 for total in (1, 2, 3, 7) for step in range(total))


def test_average():
    model = Net()
    ema = Ema(model, 0.5)
    first = model.conv.weight.detach().clone()
    with torch.no_grad():
        model.conv.weight += 1
    ema.update(0)
    assert torch.allclose(ema.model.conv.weight, first + 0.9)  # decay 1 / 10 at first
    ema.update(1000)
    assert torch.allclose(ema.model.conv.weight, first + 0.95)
    assert ema.model.norm.num_batches_tracked.dtype == torch.int64


def test_groups_of_parameters():
    model = Net()
    model.stem.bias.requires_grad_(False)
    groups = optim.parameter_groups(model, TrainSettings(layer_decay=0.5, head_lr=2.0, weight_decay=0.1))
    told = {name: (g["scale"], g["weight_decay"]) for g in groups for name in g["names"]}
    assert told == {
        "stem.weight": (0.25, 0.1), "norm.weight": (0.25, 0), "norm.bias": (0.25, 0), "conv.weight": (0.5, 0.1),
        "conv.bias": (0.5, 0), "head.1.weight": (2.0, 0.1), "head.1.bias": (2.0, 0),
    }  # fmt: skip
    optimizer = optim.optimizer(model, TrainSettings(layer_decay=0.5))
    optim.set_rate(optimizer, 0.1)
    assert {round(g["lr"], 6) for g in optimizer.param_groups} == {0.025, 0.05, 0.1}


def test_plans_fit_the_time():
    measured = {"fp32": 0.9, "bf16": 0.4, "data": 0.1, "validation": 2.0}
    settings = TrainSettings(epochs=50)
    assert plan.fitted(settings, 8, False, measured, None).epochs == 50
    assert plan.fitted(settings, 8, False, measured, 100 / plan.SPARE).epochs == 10
    assert plan.fitted(settings, 8, True, measured, 100 / plan.SPARE).epochs == 16
    short = plan.fitted(settings, 8, False, measured, 6 / plan.SPARE)
    assert (short.epochs, short.steps, short.total) == (1, 4, 4)
    assert plan.fitted(settings, 8, False, measured, 0.1).total == 1


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, True), (0.95, False), (3.0, False)])
def test_bf16_only_where_it_is_faster(monkeypatch, ratio, expected):
    clock = [0.0]
    monkeypatch.setattr(plan.time, "perf_counter", lambda: clock[0])

    def step(x, y, bf16):
        clock[0] += ratio if bf16 else 1.0

    monkeypatch.setattr(plan, "quick_bf16", lambda: True)
    assert plan.precision(TrainSettings(), step, None, None)[0] == expected
    monkeypatch.setattr(plan, "quick_bf16", lambda: False)
    assert plan.precision(TrainSettings(), step, None, None) == (False, {"fp32": 1.0})
    assert plan.precision(TrainSettings(precision="fp32"), step, None, None) == (False, {"fp32": 1.0})
    assert plan.precision(TrainSettings(precision="bf16"), step, None, None)[0]


def test_slow_steps_are_not_repeated_often(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(plan.time, "perf_counter", lambda: clock[0])

    def work(seconds):
        calls.append(seconds)
        clock[0] += seconds

    assert plan.steady(lambda: work(5.0)) == 5.0
    assert calls == [5.0, 5.0]
    assert plan.steady(lambda: work(0.1)) == pytest.approx(0.1)
    assert len(calls) == 6


def test_checkpoints(tmp_path):
    held = {"a": torch.arange(6.0).reshape(2, 3).t(), "n": torch.tensor(3)}
    checkpoint.write(tmp_path / "x.safetensors", held, {"loss": 0.1 + 0.2, "list": [1]})
    tensors, state = checkpoint.read(tmp_path / "x.safetensors")
    assert all(torch.equal(tensors[name], t) for name, t in held.items())
    assert state == {"loss": 0.1 + 0.2, "list": [1]}
    for content in (b"", b"\x80\x04N."):
        (tmp_path / "y").write_bytes(content)
        with pytest.raises(TrainError, match="is no checkpoint"):
            checkpoint.read(tmp_path / "y")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "no training setting 'epoch'; there are epochs"),
        ({"epochs": 0}, "epochs=0 must be a whole number"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"lr": 0}, "lr=0 must be a number above 0"),
        ({"lr": math.nan}, "lr=nan"),
        ({"warmup": 1.0}, "warmup=1.0 must be a number 0 or more and below 1"),
        ({"ema": "much"}, "ema='much'"),
        ({"optimizer": "adam"}, "'adam' is none of adamw, sgd"),
        ({"precision": "fp16"}, "'fp16' is none of"),
        ({"balance": True}, "True is none of"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(TrainError, match=message):
        TrainSettings().changed(changes)


def test_recipes():
    for name in recipes.RECIPES:
        settings = recipes.named(name)(flips=["vflip", "rot90"], epochs=3)
        assert settings.epochs == 3
        augmentation(settings.augment, (32, 32))
        assert "vflip" in settings.augment
        assert "hflip" not in settings.augment
        augmentation(recipes.named(name)(flips=[]).augment, (32, 32))
    with pytest.raises(TrainError, match="no recipe 'finetun'; did you mean finetune"):
        recipes.named("finetun")
