import json

import pytest
from torch import nn

import opsin
from opsin import OpsinError
from opsin.build import build
from opsin.registry import (
    ABOUT,
    BUILDERS,
    OPERATORS,
    UnknownName,
    UnsupportedArgument,
    about,
    capabilities,
    facts,
    family,
    list_models,
    operator,
    parse_call,
    rounded,
)


@pytest.fixture
def toy():
    """A family of two, registered for one test."""
    told = about(title="Toys", arxiv=None, licence="MIT", native=32)

    @family(told, toy_a=dict(dim=4), toy_b=dict(dim=8, native=64, arxiv="1234.56789"))
    def build_toy(dim: int, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0) -> nn.Module:
        net = nn.Module()
        net.made, net.backbone, net.backbone.strides = (dim, num_classes, in_chans), nn.Module(), [4, 8]
        return net

    yield build_toy
    for name in ("toy_a", "toy_b"):
        del BUILDERS[name], ABOUT[name]


def test_a_family_registers_its_variants_and_what_is_told_of_them(toy):
    assert BUILDERS["toy_b"] == (toy, {"dim": 8})
    assert (ABOUT["toy_a"]["native"], ABOUT["toy_b"]["native"]) == (32, 64)
    assert (ABOUT["toy_a"]["arxiv"], ABOUT["toy_b"]["arxiv"]) == (None, "1234.56789")
    assert ABOUT["toy_b"]["family"] == "test_registry"
    net = build("toy_b", num_classes=3)
    assert net.made == (8, 3, 3)
    assert net.config == {"architecture": "toy_b", "arguments": {"num_classes": 3}, "widths": {}}


def test_names_are_listed_in_natural_order():
    assert list_models("resnet??")[:4] == ["resnet18", "resnet26", "resnet34", "resnet50"]
    assert list_models("no*such") == []


def test_facts_and_capabilities_are_plain_copies():
    told = facts("resnet50")
    assert (told["params"], told["strides"]) == (25557032, [2, 4, 8, 16, 32])
    assert told["widths"] == [64, 256, 512, 1024, 2048]
    assert json.loads(json.dumps(told)) == told
    told["params"] = 0
    assert facts("resnet50")["params"] == 25557032
    assert capabilities("resnet50")["output_stride"] == [32, 16, 8]
    assert capabilities("vit_tiny_patch16_224")["output_stride"] == [16]
    assert "img_size" in capabilities("vit_tiny_patch16_224")["arguments"]


@pytest.mark.parametrize("ask", [facts, capabilities, build, opsin.create_model])
def test_unknown_names_suggest_near_ones(ask):
    with pytest.raises(UnknownName, match=r"no network is called 'resnet5O'; did you mean .*resnet50") as caught:
        ask("resnet5O")
    assert isinstance(caught.value, OpsinError)
    assert isinstance(caught.value, KeyError)
    with pytest.raises(UnknownName, match="'zzzz'; `opsin list` shows them all"):
        ask("zzzz")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_clases": 3}, "resnet18 takes no argument 'num_clases'; did you mean num_classes"),
        ({"zzzz": 3}, "resnet18 takes no argument 'zzzz'; it takes depths, .*, output_stride"),
        ({"img_size": 64}, "resnet18 takes no argument 'img_size'"),
        ({"num_classes": True}, "num_classes must be a whole number of at least 0, not True"),
        ({"num_classes": -1}, "num_classes must be a whole number of at least 0, not -1"),
        ({"num_classes": 2.5}, "num_classes must be .* not 2.5"),
        ({"num_classes": "10"}, "num_classes must be .* not '10'"),
        ({"num_classes": None}, "num_classes must be .* not None"),
        ({"in_chans": 0}, "in_chans must be a whole number of at least 1, not 0"),
        ({"in_chans": 3.0}, "in_chans must be .* not 3.0"),
        ({"drop_rate": 2}, "drop_rate is a probability.* not 2"),
        ({"drop_rate": 1.0}, "drop_rate is a probability.* not 1.0"),
        ({"drop_rate": -0.1}, "drop_rate is a probability.* not -0.1"),
        ({"drop_path_rate": float("nan")}, "drop_path_rate is a probability.* not nan"),
        ({"drop_path_rate": "0.1"}, "drop_path_rate is a probability.* not '0.1'"),
        ({"drop_rate": True}, "drop_rate is a probability.* not True"),
        ({"output_stride": 7}, "resnet18 has output_stride 32 or 16 or 8, not 7"),
        ({"output_stride": "8"}, "resnet18 has output_stride 32 or 16 or 8, not '8'"),
    ],
)
def test_arguments_that_a_network_cannot_mean(given, message):
    with pytest.raises(UnsupportedArgument, match=message) as caught:
        opsin.create_model("resnet18", **given)
    assert isinstance(caught.value, OpsinError)


@pytest.mark.parametrize("size", [100, 0, -16, 8, True, 224.0, "224", (224, 100), (224,), (224, 224, 3), None])
def test_sizes_that_patches_do_not_fill(size):
    with pytest.raises(UnsupportedArgument, match=r"img_size .* not filled by patches of 16 pixels: take a multiple"):
        opsin.create_model("vit_tiny_patch16_224", img_size=size)


def test_a_network_without_dilation_keeps_its_stride():
    with pytest.raises(UnsupportedArgument, match="vit_tiny_patch16_224 has output_stride 16, not 8"):
        opsin.create_model("vit_tiny_patch16_224", output_stride=8)


# ------------------------------------------------- operators as calls -------------------------------------------------


def test_calls_hold_literals_only():
    assert parse_call("gnconv") == ("gnconv", {})
    assert parse_call(" gnconv(order=3, shape=(1, -2), name='x') ") == (
        "gnconv",
        {"order": 3, "shape": (1, -2), "name": "x"},
    )
    for text in (
        "f(3)",
        "f(x=y)",
        "a.b()",
        "f(",
        "",
        "1",
        "f(**{'x': 1})",
        "f(x=g())",
        "f(x=1)(y=2)",
        "f;g",
        "f(x=1, x=2)",
    ):
        with pytest.raises(UnsupportedArgument, match="is not a call like"):
            parse_call(text)


def test_operators_by_name(monkeypatch):
    monkeypatch.setitem(OPERATORS, "relu_like", nn.LeakyReLU)
    assert operator("relu_like(negative_slope=0.5)")().negative_slope == 0.5
    assert operator(nn.ReLU) is nn.ReLU
    with pytest.raises(UnknownName, match="no operator is called 'relulike'; there are relu_like"):
        operator("relulike")


def test_channels_round_to_eights_but_never_lose_a_tenth():
    assert [rounded(c) for c in (3, 16, 19, 20, 11.2, 105.6)] == [8, 16, 24, 24, 16, 104]
    assert rounded(12, 16) == 16
