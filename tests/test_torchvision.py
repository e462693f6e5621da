"""The same networks as torchvision's: names, shapes and numbers, in both directions."""

import pytest
import torch
from reference import torchvision
from zoo import apart, randomise

from opsin.convert import placed, rename, restore, tables
from opsin.registry import builder, facts

# ours: (theirs, an input)
TWINS = {
    "swin_tiny_patch4_window7_224": ("swin_t", (1, 3, 64, 96)),
    "swin_small_patch4_window7_224": ("swin_s", (1, 3, 64, 96)),
    "swin_base_patch4_window7_224": ("swin_b", (1, 3, 64, 96)),
}
SMALLEST = ("swin_tiny_patch4_window7_224",)


def rules(name: str) -> str:
    return tables(facts(name)["family"])["TORCHVISION"]


def both(name: str):
    build, variant = builder(name)
    return build(**variant), torchvision.models.get_model(TWINS[name][0])


@pytest.mark.parametrize("name", TWINS)
def test_names_and_shapes(name):
    with torch.device("meta"):
        ours, theirs = (net.state_dict() for net in both(name))
    there = placed(theirs, rules(name))
    assert set(there.values()) == set(ours)
    assert all(theirs[k].squeeze().shape == ours[v].squeeze().shape for k, v in there.items())


@pytest.mark.parametrize("name", SMALLEST)
def test_same_numbers_in_both_directions(name):
    ours, theirs = (net.double().eval() for net in both(name))
    x = torch.randn(TWINS[name][1]).double()
    randomise(theirs)
    shapes = ours.state_dict()
    ours.load_state_dict({k: v.reshape(shapes[k].shape) for k, v in rename(theirs.state_dict(), rules(name)).items()})
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9
    randomise(ours, seed=7)
    names = theirs.state_dict()
    back = restore(ours.state_dict(), names, rules(name))
    theirs.load_state_dict({k: v.reshape(names[k].shape) for k, v in back.items()}, strict=False)
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9
