import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from zoo import randomise

from opsin import OpsinError, create_model, save
from opsin.data import Preprocess
from opsin.evaluate.receptive import SHARES, contributions, draw, high_contribution, receptive_field
from opsin.verbs import explain


def network(name: str, **more):
    torch.manual_seed(0)
    net = create_model(name, num_classes=2, **more)
    randomise(net)
    return net


def test_contributions_are_the_derivative_of_the_centre():
    net, x = network("resnet18").double().eval(), torch.randn(1, 3, 96, 96).double()
    made = contributions(net, x)

    def centre(x):
        return net.forward_intermediates(x, 1)[0][0, :, 1, 1].sum()

    step = 1e-6
    for y, c in ((40, 44), (60, 20)):
        slopes = []
        for channel in range(3):
            moved = x.clone()
            moved[0, channel, y, c] += step
            with torch.no_grad():
                slopes.append((centre(moved) - centre(x)) / step)
        assert torch.allclose(made[0, y, c], sum(s.clamp(min=0) for s in slopes), rtol=1e-3)
    assert all(p.grad is None for p in net.parameters())


def test_a_field_is_no_wider_than_the_kernels_reach():
    net = nn.Module()
    net.backbone = lambda x, taps: type("Features", (), {"maps": [conv(x)]})
    conv = nn.Conv2d(3, 4, 7, padding=3)
    nn.init.ones_(conv.weight)
    field = receptive_field(net, [torch.randn(2, 3, 21, 21)] * 2)
    assert np.array_equal(np.argwhere(field > 0).min(0), [7, 7])
    assert np.array_equal(np.argwhere(field > 0).max(0), [13, 13])
    ratios = high_contribution(field)  # 49 places count the same: 25 are more than a half, 9 less than a fifth
    assert ratios == {0.2: 25 / 441, 0.3: 25 / 441, 0.5: 25 / 441, 0.99: 49 / 441}


def test_large_kernels_see_farther_than_resnets():
    images = [torch.randn(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))]
    large, small = (high_contribution(receptive_field(network(name), images)) for name in ("unireplknet_a", "resnet50"))
    assert all(large[share] > small[share] for share in SHARES)
    assert large[0.5] > 1.5 * small[0.5]


def test_what_cannot_be_measured_is_told():
    with pytest.raises(OpsinError, match="no images"):
        receptive_field(network("resnet18"), [])
    with pytest.raises(OpsinError, match="Linear has no maps"):
        contributions(nn.Linear(2, 2), torch.zeros(1, 3, 8, 8))
    with pytest.raises(OpsinError, match="does not depend"):
        high_contribution(np.zeros((4, 4)))


def test_the_command_draws_and_measures_the_field(tmp_path):
    net = network("resnet18")
    seen = {"size": [64, 64], "mean": [0.5] * 3, "std": [0.5] * 3}
    net.config["preprocessing"] = Preprocess.from_dict(seen).to_dict()
    save(net, tmp_path / "model")
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (70, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    drawn, told = explain(tmp_path / "model", [tmp_path / "0.png", tmp_path / "1.png"], method="erf")
    assert drawn.parent == tmp_path / "model" / "explain"
    assert Image.open(drawn).size == (64, 64)
    record = json.loads(told.read_text())
    assert record["images"] == 2
    ratios = [*record["area_ratio_of_contributions"].values()]
    assert ratios == sorted(ratios)
    assert draw(net, [tmp_path / "0.png"], tmp_path / "one")[1].exists()
