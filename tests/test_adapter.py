"""timm's models in our contract: the same numbers, and every part of the contract."""

import json

import pytest
import torch
from reference import timm
from zoo import apart, randomise

import opsin
from opsin.adapter import declare
from opsin.evaluate.explain import explain
from opsin.registry import UnknownName, UnsupportedArgument

# One model of each way that timm lays out features and heads: maps, maps with channels last, tokens with and without
# a prefix, a convolution behind the pool, two classifiers.
KINDS = {
    "resnet10t": 64,
    "mobilenetv3_small_050": 64,
    "edgenext_xx_small": 64,
    "swin_tiny_patch4_window7_224": 224,
    "vit_tiny_patch16_224": 224,
    "levit_128s": 224,
    "convit_tiny": 224,
    "hiera_tiny_224": 224,
    "xcit_nano_12_p16_224": 224,
    "vgg11": 64,
}
each_kind = pytest.mark.parametrize("name", KINDS)


def pair(name: str):
    ours = opsin.create_model(f"timm:{name}").eval()
    randomise(ours, 3)
    theirs = timm.create_model(name).eval()
    theirs.load_state_dict({k.removeprefix("backbone.model."): v for k, v in ours.state_dict().items()})
    return ours, theirs, torch.randn(2, 3, KINDS[name], KINDS[name], generator=torch.Generator().manual_seed(0))


@each_kind
def test_the_same_numbers_in_our_contract(name):
    ours, theirs, x = pair(name)
    with torch.no_grad():
        made = ours.forward_features(x)
        assert apart(ours(x), theirs(x)) < 1e-4
        assert apart(ours.forward_head(made), theirs(x)) < 1e-4
        assert ours.forward_head(made, pre_logits=True).shape[1] == ours.num_features
        maps = ours.forward_intermediates(x)
        expected = theirs.forward_intermediates(x, intermediates_only=True)
    assert [m.shape for m in maps] == [e.shape for e in expected]
    assert all(apart(m, e) < 1e-4 for m, e in zip(maps[:-1], expected[:-1]))
    assert [m.shape[1] for m in maps] == ours.feature_info.channels() == opsin.facts(f"timm:{name}")["widths"]


@each_kind
def test_another_classifier_and_layer_groups(name):
    ours, _, x = pair(name)
    grouped = [k for group in ours.layer_groups() for k in group]
    assert sorted(grouped) == sorted(k for k, _ in ours.named_parameters())
    assert len(ours.layer_groups()) > 3
    ours.reset_classifier(4)
    ours(x).sum().backward()
    assert ours(x).shape == (2, 4)


def test_prefix_tokens_stand_apart():
    net = opsin.create_model("timm:vit_tiny_patch16_224").eval()
    with torch.no_grad():
        seen = net.backbone(torch.randn(1, 3, 224, 224))
    assert (seen.tokens.shape[1], seen.prefix.shape[1], seen.maps[0].shape) == (196, 1, (1, 192, 14, 14))


@pytest.mark.parametrize("method", ["eigencam", "gradcam"])
@pytest.mark.parametrize("name", ["resnet10t", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_explains(name, method):
    net = opsin.create_model(f"timm:{name}").eval()
    pixels = torch.randint(0, 256, (KINDS[name], KINDS[name], 3), generator=torch.Generator().manual_seed(0))
    size = [KINDS[name]] * 2
    record = {"size": size, "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    made = explain(net, [pixels.numpy().astype("uint8")], method=method, preprocessing=record)
    assert 0 <= made[0]["heat"].min() <= made[0]["heat"].max() == pytest.approx(1)


def test_saved_as_ours_where_the_family_is_here(tmp_path):
    theirs = opsin.create_model("timm:resnet18", num_classes=5).eval()
    randomise(theirs)
    opsin.save(theirs, tmp_path / "net")
    ours = opsin.load(tmp_path / "net")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-4
    assert json.loads((tmp_path / "net" / "config.json").read_text())["architecture"] == "resnet18"


def test_saved_as_theirs_elsewhere(tmp_path):
    net = opsin.create_model("timm:xcit_nano_12_p16_224", num_classes=5).eval()
    opsin.save(net, tmp_path / "net")
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert apart(opsin.load(tmp_path / "net")(x), net(x)) < 1e-5


def test_errors_name_the_model_and_the_remedy():
    with pytest.raises(UnknownName, match="timm:resnet50"):
        opsin.create_model("timm:resnet5O")
    with pytest.raises(UnsupportedArgument, match="cannot build timm:resnet18"):
        opsin.create_model("timm:resnet18", heads=3)
    with pytest.raises(UnsupportedArgument, match="global_pool"):
        opsin.create_model("timm:resnet18", pool="gem")


def test_listed_with_facts():
    assert "timm:resnet18" in opsin.list_models("timm:resnet*")
    assert opsin.facts("timm:resnet18")["params"] == opsin.facts("resnet18")["params"]
    assert declare() is declare()
