"""Early stages that are not trained run once a look, and nothing else changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from zoo import apart, randomise

from opsin import create_model
from opsin.data import Preprocess
from opsin.deploy.fuse import fuse
from opsin.runs import front
from opsin.runs.transfer import FLIPS, views
from opsin.train import finetune, recipes

NEUTRAL = {"mean": [0.5] * 3, "std": [0.5] * 3, "channels": 3}
RECORD = {"size": [64, 64], "crop_pct": 1.0, "crop_mode": "squash", **NEUTRAL}
FLIPPED = recipes.named("finetune")(flips=("hflip", "vflip"), crop=False, epochs=2, batch_size=4, lr=0.01)


def network(name: str = "mobilenetv2_035", **given):
    net = create_model(name, num_classes=3, **given)
    randomise(net)
    return fuse(net).requires_grad_()


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {part: draw.integers(0, 255, (n, 64, 64, 3), dtype=np.uint8) for part, n in (("train", 12), ("val", 5))}


@pytest.mark.parametrize("name", ["mobilenetv2_035", "resnet10t", "tf_efficientnet_lite0"])
def test_both_parts_together_are_the_network(name):
    net, x = network(name), torch.randn(2, 3, 64, 64)
    first, rest = front.divided(net, 8)
    assert apart(rest(first(x)), net(x)) < 1e-6
    assert rest.backbone.strides == [s for s in net.backbone.strides if s > 8] or rest.backbone.strides[0] == 8


def test_looks_lie_one_below_the_other(images, tmp_path):
    first, _ = front.divided(network(), 8)
    made = front.maps(first, images["train"], RECORD, views(["hflip", "vflip"], 8), tmp_path / "a.npy")
    assert made.shape[:3] == (12, 4 * 8, 8)
    prepare = Preprocess.from_dict(RECORD)
    flipped = np.ascontiguousarray(FLIPS["vflip"](FLIPS["hflip"](images["train"])))
    with torch.no_grad():
        wanted = first(prepare.normalise(flipped)).permute(0, 2, 3, 1).numpy()
    assert np.abs(made[:, 24:] - wanted).max() < 2e-3 * np.abs(wanted).max()


def test_later_stages_learn_and_early_ones_stay(images, tmp_path):
    net = network()
    before = {name: p.clone() for name, p in net.state_dict().items()}
    rest, settings, maps = front.ahead(net, FLIPPED, RECORD, images, 1e3, tmp_path)
    assert (settings.augment, settings.freeze) == ("stacked", 0)
    labels = {part: np.arange(len(held)) % 3 for part, held in images.items()}
    finetune(
        rest, (maps["train"], labels["train"]), (maps["val"], labels["val"]), settings, run_folder=tmp_path / "run"
    )
    changed = {name for name, p in net.state_dict().items() if not torch.equal(p, before[name])}
    assert changed
    assert all(name.startswith(("backbone.stages", "head")) for name in changed)
    early = [f"{name}." for name, m in net.named_modules() if m in list(front.divided(net, 8)[0])]
    assert early
    assert not [name for name in changed if name.startswith(tuple(early))]


@pytest.mark.parametrize(
    ("settings", "patience", "name"),
    [
        (recipes.named("finetune")(crop=True), 1e3, "mobilenetv2_035"),
        (recipes.named("finetune")(crop=False, freeze=0), 1e3, "mobilenetv2_035"),
        (recipes.named("finetune")(crop=False, freeze_norm=False), 1e3, "mobilenetv2_035"),
        (recipes.named("finetune")(crop=False, mixup=0.2), 1e3, "mobilenetv2_035"),
        (FLIPPED, 1.0, "mobilenetv2_035"),
        (FLIPPED, 1e3, "ddrnet23_slim"),
    ],
)
def test_what_cannot_be_made_beforehand_is_not(settings, patience, name, images, tmp_path):
    assert front.ahead(network(name), settings, RECORD, images, patience, tmp_path) is None
    assert not list(Path(tmp_path).iterdir())


def test_maps_beyond_sixteen_bits_or_the_room_are_not_kept(images, tmp_path, monkeypatch):
    def kept(net):
        return front.maps(front.divided(net, 8)[0], images["val"], RECORD, views([], 8), tmp_path / "a.npy")

    large = network("resnet10t")
    with torch.no_grad():
        for p in large.backbone.stem.parameters():
            p.mul_(1e4)
    assert kept(large) is None
    monkeypatch.setattr(front, "ROOM", 1e3)
    assert kept(network()) is None
    assert not list(Path(tmp_path).glob("*.npy"))
