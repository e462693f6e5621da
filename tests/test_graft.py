"""Operators by name, in the places of others: nothing else changes, and the whole stays a network of ours."""

import random
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from zoo import apart, randomise

from opsin import create_model, graft, load, narrow, save, widths
from opsin.blocks.layouts import Flat, Grid
from opsin.bodies import BODIES, ROLES, body, trial, where
from opsin.errors import OpsinError
from opsin.mixers.attention import Attention
from opsin.operators import OPERATORS, Operator
from opsin.registry import UnknownName, UnsupportedArgument
from opsin.runs.settings import Settings, merge
from opsin.runs.shortlist import filled

GUIDE = (Path(__file__).parents[1] / "docs" / "operators.md").read_text()
ROWS = {name: cells.split(" | ") for name, cells in re.findall(r"^\| `(\w+)` \| \w+ \| \w+ \| (.*) \|$", GUIDE, re.M)}
NOTES = dict(re.findall(r"^(\d+)\. (.*)$", GUIDE, re.M))
CELLS = [(name, one) for name in sorted(ROWS) for one in BODIES]
X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def run(net, x=X):
    with torch.no_grad():
        return net.eval()(x)


@pytest.mark.parametrize(
    ("name", "role", "call"),
    [
        ("ConvNeXt", "mixer", "depthwise"),
        ("MetaFormer", "mixer", "pooling"),
        ("ViT", "mixer", "attention(heads=2)"),
        ("Swin", "mlp", "mlp"),
        ("Swin", "norm", "layernorm(eps=1e-5)"),
        ("ResNet", "norm", "batchnorm"),
        ("ConvNeXt", "act", "gelu"),
    ],
)
def test_a_bodys_own_operator_changes_nothing(name, role, call):
    """With the old part's weights the grafted network has the names, the shapes and the answers that it had."""
    net = body(name)
    randomise(net)
    other = graft(net, where(name, role), call)
    assert any(a is not b for a, b in zip(net.modules(), other.modules()))
    other.load_state_dict(net.state_dict())
    assert torch.equal(run(other), run(net))


def test_the_rest_keeps_its_weights_and_the_given_network_is_untouched():
    net = body("Swin")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    other = graft(net, "stages.2.*.mixer", "separable(kernel=5)")
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())
    kept = {k for k in before if not re.match(r"backbone\.stages\.2\..*\.mixer", k)}
    assert all(torch.equal(other.state_dict()[k], before[k]) for k in kept)
    made = set(other.state_dict()) - set(before)
    assert made
    assert all(k.startswith("backbone.stages.2.blocks.0.mixer.") for k in made)


@pytest.mark.parametrize("name", BODIES)
def test_what_is_grafted_has_the_widths_that_it_stands_between(name):
    """Every channel that the body loses is one that was silent: the new part's widths are its neighbours'."""
    net = graft(body(name), where(name, "mixer"), "separable(kernel=3)").double()
    randomise(net)
    draw = random.Random(0)
    inner = {n: w for n, w in widths(net).items() if n.endswith(("mixed", "reduced"))}
    assert inner
    keep = {n: sorted(draw.sample(range(w), w // 2)) for n, w in inner.items()}
    thin, silent = narrow(net, keep), net
    for n, w in inner.items():
        gone = sorted(set(range(w)) - set(keep[n]))
        for m in silent.modules():
            for layer, side in ((m, "in_features"), (m, "in_channels")):
                if getattr(layer, side, None) is w and getattr(layer, "groups", 1) == 1:
                    layer.weight.data[:, gone] = 0
    assert apart(run(thin, X.double()), run(silent, X.double())) < 1e-9
    everything = narrow(net, {n: max(1, w // 2) for n, w in widths(net).items()})
    assert run(everything, X.double()).isfinite().all()


def test_a_strided_slot_between_two_widths_gets_a_mean_and_a_pointwise_convolution():
    net = graft(body("ResNet"), "stages.1.*.conv2.conv", "attention(heads=4)")
    slot = net.backbone.stages[1].blocks[0].conv2.conv
    x = torch.randn(1, 128, 8, 12)
    attention, down, point = slot
    tokens = attention.op.op(x.flatten(2).mT).mT.unflatten(2, (8, 12))
    assert torch.allclose(slot(x), point(nn.functional.avg_pool2d(tokens, 2)), atol=1e-5)
    assert isinstance(attention.op, Flat)
    assert down.stride == 2


def test_tokens_on_no_grid_get_the_mean():
    grid = Grid(nn.Identity(), leading=1)
    x = torch.randn(2, 1 + 9, 4)
    y = grid(x)
    assert torch.equal(y[:, 1:], x[:, 1:])
    assert torch.allclose(y[:, 0], x[:, 1:].mean(1))
    assert torch.equal(grid(x[:, :7], (2, 3)), grid(x[:, :7], (3, 2)))
    with pytest.raises(OpsinError, match="6 tokens are no square"):
        grid(x[:, :7])


def test_images_of_another_shape_where_the_network_is_built_for_them():
    net = graft(create_model("vit_tiny_patch16_224", depth=2, img_size=(32, 96)), "blocks.*.mixer", "depthwise")
    assert run(net, torch.randn(1, 3, 32, 96)).shape == (1, 1000)


def test_grafts_are_saved_and_come_one_behind_the_other(tmp_path):
    net = graft(body("ViT"), "blocks.0.mixer", "separable(ratio=1.5)")
    net = graft(graft(net, "blocks.1.mlp", "swiglu"), "head.pool", "gem(p=2.0)")
    net = narrow(net, {"backbone.blocks.1.mlp.hidden": 20, "backbone.blocks.0.mixer.op.mixed": 30})
    randomise(net)
    save(net, tmp_path / "net")
    again = load(tmp_path / "net")
    assert again.config["arguments"]["graft"] == [
        ["blocks.0.mixer", "separable(ratio=1.5)"],
        ["blocks.1.mlp", "swiglu"],
    ]
    assert torch.equal(run(again), run(net))


def test_bare_constructors_stand_too_but_cannot_be_saved(tmp_path):
    net = graft(body("ConvNeXt"), "stages.1.*.dwconv", lambda dim: Attention(dim, 4))
    assert run(net).shape == (2, 3)
    with pytest.raises(OpsinError, match="does not lead to its tensors"):
        save(net, tmp_path / "net")


def test_bodies_of_operators_alone():
    mixers = ("pooling", "separable(kernel=5)", "window(window=4)", "attention(heads=4)")
    net = create_model("metaformer", mixers=mixers, depths=(1, 1, 1, 1), dims=(32, 64, 96, 128), norm="rmsnorm")
    kinds = [type(stage.blocks[0].mixer).__name__ for stage in net.backbone.stages]
    assert kinds == ["Pooling", "SeparableConv", "WindowAttention", "Flat"]
    assert run(net).shape == (2, 1000)
    with pytest.raises(UnsupportedArgument, match="one entry a stage"):
        create_model("metaformer", mixers=mixers[:3])
    with pytest.raises(UnknownName, match="separable"):
        create_model("metaformer", mixers=("seperable",) * 4)


@pytest.mark.parametrize(
    ("where", "call", "says"),
    [
        ("stages.9.*.mixer", "gelu", "no module of this network is called"),
        ("stages.0.*.mixer", "gnkonv", "no operator is called"),
        ("stages.0.*.mixer", "separable(heads=3)", "cannot stand at backbone.stages.0.blocks.0.mixer"),
        ("stages.0.*.mixer", "halo(block=0)", "cannot stand"),
        ("stages.0.*.mixer", "attention(__import__('os'))", "is not a call like name"),
        ("stages.1.down", "layernorm", "none fits there"),
        ("head.fc", "mlp", "none fits there"),
    ],
)
def test_what_cannot_stand_says_why(where, call, says):
    net = body("Swin")
    names = list(net.state_dict())
    with pytest.raises(OpsinError, match=says):
        graft(net, where, call)
    assert list(net.state_dict()) == names


def test_timms_models_are_bodies_too():
    net = graft(create_model("timm:resnet10t", num_classes=3), "*.act1", "silu")
    assert run(net).shape == (2, 3)


def test_runs_are_told_of_grafts():
    settings = merge(Settings("x"), ["graft.stages.3.*.dwconv=attention(heads=4)"])
    assert settings.graft == {"stages.3.*.dwconv": "attention(heads=4)"}
    assert merge(Settings("x"), [f"graft={settings.graft!r}"]).graft == settings.graft
    net = filled("convnext_atto", 3, 3, 64, settings)
    assert net.config["arguments"]["graft"] == [["stages.3.*.dwconv", "attention(heads=4)"]]
    again = filled("convnext_atto", 3, 3, 64, settings)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters()))


# ---------------------------------------- the guide's table ----------------------------------------


def test_the_table_lists_every_operator():
    known = {name: told.role for name, told in OPERATORS.items() if isinstance(told, Operator)}
    assert set(known.values()) == set(ROLES)
    told = {known[name] for name in ROWS}
    assert "mixer" in told
    assert set(ROWS) == {name for name, role in known.items() if role in told}
    used = {number for cells in ROWS.values() for cell in cells for number in re.findall(r"\d+", cell)}
    assert used == set(NOTES)


@pytest.mark.parametrize(("name", "one"), CELLS[::17])
def test_the_table_says_what_is(name, one):
    cell = ROWS[name][list(BODIES).index(one)]
    told = {NOTES[number] for number in re.findall(r"\d+", cell)}
    assert {f"{what}: {why}" for what, why in trial(one, name).items() if why} == told


@pytest.mark.slow
@pytest.mark.parametrize(("name", "one"), sorted(set(CELLS) - set(CELLS[::17])))
def test_the_whole_table_says_what_is(name, one):
    test_the_table_says_what_is(name, one)
