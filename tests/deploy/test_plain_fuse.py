import copy

import pytest
import torch
from torch import nn

from opsin import create_model
from opsin.deploy.fuse import fuse, unfused
from opsin.deploy.plain import plain
from opsin.width import Width, widths


def settle(model, seed=0):
    torch.manual_seed(seed)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.5, 2)
            nn.init.uniform_(m.weight, 0.5, 1.5)
    return model.eval()


def held(model):
    found = []
    for m in model.modules():
        for name, value in vars(m).items():
            if not name.startswith("_"):
                found += [v for v in (value if isinstance(value, list | tuple) else [value]) if isinstance(v, Width)]
    return found


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "densenet121"])
def test_plain_holds_no_widths_and_computes_the_same(name):
    model = create_model(name, num_classes=7).eval()
    copied, x = plain(model), torch.rand(1, 3, 224, 224)
    assert held(model)
    assert not held(copied)
    assert widths(model)
    with torch.no_grad():
        assert torch.equal(copied(x), model(x))


def test_plain_reaches_into_containers():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.nested = {"a": [Width(3), (Width(4), "text")], "b": torch.Size([2])}

    nested = plain(Holder()).nested
    assert nested == {"a": [3, (4, "text")], "b": torch.Size([2])}
    assert type(nested["a"][0]) is type(nested["a"][1][0]) is int
    assert type(nested["b"]) is torch.Size


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "tf_efficientnet_b0", "densenet121"])
def test_folding_the_norms_changes_nothing_but_the_count(name):
    model = settle(create_model(name, num_classes=7)).double()
    folded, x = fuse(model), torch.rand(1, 3, 96, 96, dtype=torch.double)
    count = lambda net: sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert count(folded) < count(model)
    with torch.no_grad():
        assert (folded(x) - model(x)).abs().max() < 1e-9 * model(x).abs().max()


def test_what_cannot_be_folded_stays():
    conv, norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
    twice = settle(nn.Sequential(conv, norm, nn.ReLU(), conv, copy.deepcopy(norm)))
    bare = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    x = torch.rand(2, 4, 5, 5)
    for model in (twice, bare):
        folded = fuse(model)
        assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) > 0
        assert torch.allclose(folded(x), model.eval()(x))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_035", "efficientnet_b0", "densenet121"])
def test_what_was_trained_folded_goes_back_into_the_network(name):
    model, x = settle(create_model(name, num_classes=3)), torch.randn(2, 3, 64, 64)
    folded = fuse(model)
    with torch.no_grad():
        for p in folded.parameters():
            p += 0.01 * torch.randn_like(p)
        made = unfused(folded, model)
        wanted = folded(x)
        assert made.state_dict().keys() == model.state_dict().keys()
        assert (made.eval()(x) - wanted).abs().max() < 1e-4 * wanted.abs().max()
