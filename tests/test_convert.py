import pytest
import torch
from torch import nn

from opsin.convert import ConversionError, few, placed, rename, restore, tables

RULES = """
    conv1                     -> backbone.stem.conv
    layer{s}.{b}.bn{i}        -> backbone.stages.{s-1}.blocks.{b}.norm{i+1}
    layer{s}.{b}              -> backbone.stages.{s-1}.blocks.{b}
    num_batches               ->
"""


def test_numbers_are_carried_and_shifted():
    names = ["conv1.weight", "layer1.0.bn2.bias", "layer12.10.conv3.weight", "layer2.3"]
    assert placed(names, RULES) == {
        "conv1.weight": "backbone.stem.conv.weight",
        "layer1.0.bn2.bias": "backbone.stages.0.blocks.0.norm3.bias",
        "layer12.10.conv3.weight": "backbone.stages.11.blocks.10.conv3.weight",
        "layer2.3": "backbone.stages.1.blocks.3",
    }


def test_the_first_rule_that_fits_whole_steps_counts():
    assert placed(["a.b", "a.bc"], "a.b -> x\n a -> y") == {"a.b": "x", "a.bc": "y.bc"}


def test_equal_parts_of_one_tensor_go_to_several_places():
    rules, whole = "{i}.qkv -> {i+1}.q | 0 | {i+1}.v", torch.arange(6.0)
    made = rename({"0.qkv": whole}, rules)
    assert {name: part.tolist() for name, part in made.items()} == {"1.q": [0, 1], "1.v": [4, 5]}
    assert restore(made, ["0.qkv"], rules)["0.qkv"].tolist() == [0, 1, 0, 0, 4, 5]


def test_dots_are_dots():
    with pytest.raises(ConversionError, match="fit no rule: aXb"):
        placed(["aXb"], "a.b -> c")


def test_dropped_names_leave_nothing():
    assert placed(["num_batches.x", "conv1"], RULES) == {"conv1": "backbone.stem.conv"}


def test_names_without_a_rule_are_all_told():
    with pytest.raises(ConversionError, match=r"2 names of the checkpoint fit no rule: conv10\.weight, l") as caught:
        placed(["conv1.weight", "conv10.weight", "layerx"], RULES)
    assert str(caught.value)[0] != "'"  # a KeyError shows its text as a literal otherwise
    with pytest.raises(ConversionError, match=r"t7 and 12 more$"):
        placed([f"t{i}" for i in range(20)], RULES)


def test_two_names_for_one_place():
    with pytest.raises(ConversionError, match=r"two published names for one of ours: c\.w"):
        placed(["a.w", "b.w"], "a -> c\n b -> c")


def test_restore_inverts_rename():
    theirs = {"conv1.weight": torch.randn(2), "layer2.1.bn1.bias": torch.randn(3), "num_batches": torch.tensor(1)}
    ours = rename(theirs, RULES)
    assert list(ours) == ["backbone.stem.conv.weight", "backbone.stages.1.blocks.1.norm2.bias"]
    back = restore(ours, theirs, RULES)
    assert list(back) == ["conv1.weight", "layer2.1.bn1.bias"]
    assert all(back[k] is theirs[k] for k in back)


def test_loading_says_what_is_left_empty():
    net = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match=r"Missing key.*bias"):
        net.load_state_dict(rename({"w": torch.ones(2, 2)}, "w -> weight"))


def test_a_familys_tables_are_found_by_its_name():
    assert set(tables("mobilenet_v2")) == {"TIMM", "TORCHVISION"}


def test_few():
    assert few("abc") == "a, b, c"
    assert few("abcd", 2) == "a, b and 2 more"
