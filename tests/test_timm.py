"""The same networks as timm's: names, shapes, numbers, features, in both directions."""

import fnmatch
import re
from pathlib import Path

import pytest
import torch
from reference import timm
from zoo import apart, image, randomise, representatives, small_size, with_slow

from opsin.blocks import FeatureMaps
from opsin.convert import ConversionError, placed, rename, restore, tables
from opsin.registry import builder, facts, list_models

HEAVY = 4e8  # parameters: two such networks in float64 do not fit beside each other
THEIRS = [name for name in list_models() if timm.is_model(name)]
# Networks that both can build smaller, by our arguments and by theirs.
REDUCED = {"nasnetalarge": (dict(dim=44, stem=32), dict(num_features=1056, stem_size=32)), "halonet_h1": ({}, {})}
COMPARED = [*[n for n in representatives() if n in THEIRS], *REDUCED]
INSIDE = ("nasnet", "xception", "xception_aligned")  # families that timm taps inside blocks, behind an activation
STRIDED = [
    name
    for name in representatives()
    if name in THEIRS and len(facts(name)["output_stride"]) > 1
    if facts(name)["family"] not in ("mobilenet_v3", "mobileone")  # theirs takes no output_stride, or does not dilate
]


def table(name: str, theirs: dict, ours: dict) -> str:
    """The family's table that places every one of their names, and with them fills every one of ours."""
    for rules in tables(facts(name)["family"]).values():
        try:
            if set(placed(theirs, rules).values()) == set(ours):
                return rules
        except ConversionError:
            continue
    raise AssertionError(f"no table of {facts(name)['family']} fits {name}")


def pair(name: str, **given):
    """Ours and theirs with one set of random weights."""
    build, variant = builder(name)
    if "img_size" in variant:
        given["img_size"] = small_size(name)
    if facts(name)["params"] > HEAVY and "depth" in variant:
        given["depth"] = 2
    own, their = REDUCED.get(name, ({}, {}))
    ours = build(**{**variant, **given, **own}).double().eval()
    theirs = timm.create_model(name, num_classes=1000, **given, **their)
    theirs = as_authors(name, theirs.double().eval())
    randomise(theirs)
    state = theirs.state_dict()
    state = rename(state, table(name, state, ours.state_dict()))
    ours.load_state_dict({k: v.reshape(ours.state_dict()[k].shape) for k, v in state.items()})
    return ours, theirs


NATIVE = ("halonet",)  # families whose maps must divide by their windows at every stride, there


def probe(name: str):
    """Images that both take: of the native size where theirs takes no other."""
    one = timm.get_pretrained_cfg(name).fixed_input_size and "img_size" not in builder(name)[1]
    one = one or facts(name)["family"] in NATIVE
    return image(name, 1 if one else 2, size=facts(name)["native"] if one else None).double()


def as_authors(name: str, theirs):
    """Where timm computes otherwise than the authors, whose code trained the weights, it is set right."""
    if name.startswith(("convformer", "caformer")):
        theirs.head.fc.norm.eps = 1e-5
    return theirs


def test_every_shared_name_is_covered():
    assert len(THEIRS) >= 110


def test_what_is_not_ours_beside_our_families_is_told():
    modules = {name: timm.models._registry._model_to_module[name] for name in timm.list_models()}
    shared = {modules[name] for name in THEIRS} | {"swin_transformer_v2_cr"}
    missing = {name for name, module in modules.items() if module in shared} - set(THEIRS)
    table = (Path(__file__).parents[1] / "docs/timm.md").read_text().split("## Speed")[0]
    told = [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in table.splitlines() if row.startswith("| `")]
    kinds = [set(fnmatch.filter(missing, pattern)) for patterns in told for pattern in patterns]
    assert set().union(*kinds) == missing
    assert all(kinds)


@pytest.mark.parametrize("name", with_slow(THEIRS, COMPARED))
def test_names_and_shapes(name):
    build, variant = builder(name)
    with torch.device("meta"):
        ours, theirs = build(**variant).state_dict(), timm.create_model(name, num_classes=1000).state_dict()
    for theirs_name, ours_name in placed(theirs, table(name, theirs, ours)).items():
        here, there = ours[ours_name], theirs[theirs_name]
        experts = there.ndim == 2 and here.ndim == 4 and len(here) % len(there) == 0  # CondConv's, written flat there
        assert here.numel() == there.numel(), theirs_name
        assert experts or there.squeeze().shape == here.squeeze().shape, theirs_name


@pytest.mark.parametrize("name", COMPARED)
def test_same_numbers_and_features(name):
    ours, theirs = pair(name)
    x = probe(name)
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9
        expected = their_features(theirs, x, name)
        made = FeatureMaps(ours)(x)
    if facts(name)["family"] in INSIDE:
        made, expected = made[-1:], expected[-1:]
    assert [m.shape for m in made] == [e.shape for e in expected]
    with torch.no_grad():  # theirs hand out the last map behind the head's norm, where it has one
        last = [m for m in (made[-1], ours.forward_features(x)) if getattr(m, "shape", None) == expected[-1].shape]
        made[-1] = min(last, key=lambda m: apart(m, expected[-1]))
    assert max(apart(m, e) for m, e in zip(made, expected)) < 1e-9
    back_in_their_names(name, ours, theirs)


def back_in_their_names(name: str, ours, theirs) -> None:
    """Our tensors, renamed back, are theirs: all but tables that theirs computes."""
    names = theirs.state_dict()
    back = restore(ours.state_dict(), names, table(name, names, ours.state_dict()))
    assert all(torch.equal(back[k].reshape(names[k].shape), names[k]) for k in back)
    assert all("relative_position_index" in k or "attn_mask" in k for k in names.keys() - back.keys())


def their_features(theirs, x, name: str) -> list:
    if hasattr(theirs, "forward_intermediates"):
        return theirs.forward_intermediates(x, intermediates_only=True)
    taps = timm.create_model(name, num_classes=1000, features_only=True).double().eval()
    taps.load_state_dict(theirs.state_dict(), strict=False)
    return taps(x)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(THEIRS) - set(COMPARED)))
def test_same_numbers_in_every_variant(name):
    if facts(name)["params"] > HEAVY and "depth" not in builder(name)[1]:
        pytest.skip("more than 7 GB in float64")
    test_same_numbers_and_features(name)


@pytest.mark.parametrize("name", STRIDED)
@pytest.mark.parametrize("stride", with_slow([16, 8], [8]))
def test_same_numbers_with_dilation(name, stride):
    from opsin import create_model

    ours, theirs = create_model(name, output_stride=stride), timm.create_model(name, output_stride=stride)
    randomise(theirs)
    state = theirs.state_dict()
    state = rename(state, table(name, state, ours.state_dict()))
    ours.load_state_dict({k: v.reshape(ours.state_dict()[k].shape) for k, v in state.items()})
    x = torch.randn(1, 3, 96, 96).double()
    with torch.no_grad():
        assert apart(ours.double().eval()(x), theirs.double().eval()(x)) < 1e-9


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_other_sizes_by_interpolated_positions(name):
    ours, theirs = pair(name)
    sized = timm.create_model(name, num_classes=1000, img_size=small_size(name), dynamic_img_size=True).double().eval()
    sized.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 48, 80).double()
    with torch.no_grad():
        assert apart(ours(x), sized(x)) < 1e-6  # the table is resampled in float32, there as here
