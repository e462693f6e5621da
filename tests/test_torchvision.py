"""The same networks as torchvision's: names, shapes and numbers, in both directions."""

import pytest
import torch
from reference import torchvision
from zoo import apart, randomise

from opsin import create_model
from opsin.convert import placed, rename, restore, tables
from opsin.families.inception_v3 import PUBLISHED
from opsin.families.vgg import TABLE_A_BN
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


# ---------------------------------------- heads that timm leaves out ----------------------------------------


def test_inception_v3_with_its_auxiliary_head():
    theirs = torchvision.models.inception_v3(init_weights=False, dropout=0.0).double()
    randomise(theirs)
    state = {k: v.clone() for k, v in theirs.state_dict().items()}
    ours = create_model("inception_v3", auxiliary=True).double()
    ours.load_state_dict(rename(state, PUBLISHED))
    assert sum(p.numel() for p in ours.parameters()) == 27_161_264
    x = torch.randn(1, 3, 299, 299).double()
    with torch.no_grad():
        assert apart(ours.eval()(x), theirs.eval()(x)) < 1e-9
        middle, _ = ours.backbone(x, (-2, -1)).maps
        assert apart(ours.head.auxiliary(middle), theirs.AuxLogits(middle)) < 1e-9
        logits, auxiliary = ours.train()(torch.randn(2, 3, 107, 107).double())
    assert logits.shape == auxiliary.shape == (2, 1000)


def test_vgg_with_its_fully_connected_layers():
    theirs = torchvision.models.vgg11_bn(num_classes=10).eval()
    theirs.classifier[0] = torch.nn.Linear(512 * 49, 64)
    theirs.classifier[3], theirs.classifier[6] = torch.nn.Linear(64, 64), torch.nn.Linear(64, 10)
    theirs = theirs.double()
    randomise(theirs)
    ours = create_model("vgg11_bn", num_classes=10, hidden=64).double().eval()
    state, own = rename(theirs.state_dict(), TABLE_A_BN), ours.state_dict()
    ours.load_state_dict({k: v.reshape(own[k].shape) for k, v in state.items()})
    x = torch.randn(1, 3, 224, 224).double()
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9
