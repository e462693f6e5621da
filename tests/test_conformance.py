"""What every network of the registry must do, run over the smallest of each code path."""

import json
import random

import pytest
import torch
from torch.func import functional_call
from zoo import UNPADDED, apart, cut, each_family, image, lean, representatives, small, small_size, whole, with_slow

import opsin
from opsin import papers
from opsin.blocks import FeatureMaps
from opsin.families.golden import digest, measured
from opsin.layers import NeighbourGate
from opsin.layers.norm import GlobalResponseNorm
from opsin.mixers.covariance import CrossCovariance
from opsin.mixers.recattn import PositiveAttention
from opsin.registry import BUILDERS, builder, facts, list_models
from opsin.width import atoms, axes, fixed, narrow, slices, widths

each_path = pytest.mark.parametrize("name", representatives())
DENOISE = [name for name in representatives() if facts(name)["task"] == "denoise"]  # what they answer are images
one_a_family = pytest.mark.parametrize("name", with_slow(representatives(), each_family()))  # for what families share
CLASSIFY = [name for name in representatives() if name not in DENOISE]
one_classifier_a_family = pytest.mark.parametrize("name", with_slow(CLASSIFY, each_family()))

# Dimensions of parameters that belong to no width, by the end of the parameter's name: pixels' channels, classes,
# places on a grid. The catalogue says what else cannot change in whose networks, and why. Anything else that `fixed`
# finds is a producer and a consumer that both forgot their width.
FREE = (
    "stem.weight",
    "stem.conv.weight",
    "stem.0.weight",
    "stem.0.conv.weight",
    "stem.0.0.weight",
    "stem.weight",
    "stem.conv.convs.0.conv.weight",
    "stem.conv.point.conv.weight",
    "patches.weight",
    "fc.weight",
    "fc.bias",
    "distilled.weight",
    "distilled.bias",
    *(f"{head}.{kind}" for head in ("labels", "teacher") for kind in ("weight", "bias")),
    "positions.table",
    "bias.table",
    *(f"fc.{i}.{name}" for i in range(2) for name in ("weight", "bias")),  # a classifier a branch
    *(part for i in (0, 1) for part in (f"patches.{i}.weight", f"patches.{i}.0.weight", f"positions.{i}.table")),
    "pixels.proj.weight",
    "stages.0.down.0.weight",
    "patches.conv.weight",
    "patches.0.conv.weight",
    *(f"positions.{axis}" for axis in ("space", "time")),
    *(f"offsets.{axis}" for axis in "thw"),
    "where.weight",  # reads an offset and its square
    "positions.proj.weight",  # reads waves over the grid
    ".gates",  # one a branch
    "prefix.cls",  # tokens
    "places.weight",  # classes
    "places.bias",
    "mixer.op.table",  # places on a grid
    "mixer.mixer.table",
    "prefix.reg",
    "bias.fc1.weight",  # reads an offset's two coordinates
    # Vectors for places: theirs are the channels of one head, which stay as many.
    "0.rows",
    "0.columns",
    # Hidden states of a state space: heads read their mean, so that none can go without a trace.
    "mixer.read.weight",
    "mixer.near.weight",
    "mixer.decay",
    # Routes of a scan, whose weights lie in one tensor.
    *(f"spaces.{name}" for name in ("read", "dt", "dt_bias", "log_decay", "skip")),
    "space.moves",  # ways to a neighbour
    # Classes, and one number for each of several heads.
    *(f"heads.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")),
    "time.fc1.weight",  # reads waves
    "stem.convs.0.weight",
    *(f"cell.norms.1.{kind}" for kind in ("weight", "bias")),  # of polynomials, all of which a memory needs
    "fc.weights",
    "labels.weights",
    "teacher.weights",
)


def test_the_table_lists_exactly_the_registered_networks():
    assert sorted(BUILDERS) == sorted(list_models())


@pytest.mark.parametrize("name", list_models())
def test_builds_on_meta_with_the_golden_names_and_parameters(name):
    build, variant = builder(name)
    with torch.device("meta"):
        net = build(**variant)
    assert sum(p.numel() for p in net.parameters()) == facts(name)["params"]
    assert digest(net) == facts(name)["names"]


@each_path
def test_facts_are_measured(name):
    told = facts(name)
    told.pop("name")
    assert json.loads(json.dumps(measured(name))) == told


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(list_models()) - set(representatives())))
def test_all_facts_are_measured(name):
    test_facts_are_measured(name)


@each_path
def test_trains_a_step(name):
    net = small(
        name, num_classes=5, **({"drop_path_rate": 0.1} if "drop_path_rate" in facts(name)["arguments"] else {})
    )
    y = net.train()(image(name))
    y.square().mean().backward()
    silent = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []
    assert y.shape[:2] == (2, 2 * image(name).shape[1] if name in DENOISE else 5)


@each_path
def test_features_have_the_promised_widths_and_strides(name):
    if facts(name)["params"] > 4e8:
        pytest.skip("its twins of other sizes are looked at")
    net, size = whole(name).eval(), small_size(name)
    with torch.no_grad():
        maps = net.forward_intermediates(image(name))
        only = FeatureMaps(net, [0, -1])
        first, last = only(image(name))
    assert [m.shape[1] for m in maps] == net.feature_info.channels() == facts(name)["widths"]
    assert steps(net, maps, size, name) == net.feature_info.reduction() == facts(name)["strides"]
    assert torch.equal(first, maps[0])
    assert torch.equal(last, maps[-1])
    assert only.feature_info.channels() == [facts(name)["widths"][0], facts(name)["widths"][-1]]


def steps(net, maps, size: int, name: str) -> list[int]:
    """Pixels a step of each map; where maps lose their borders, by how they grow with the image."""
    if facts(name)["family"] not in UNPADDED:
        return [size // m.shape[-1] for m in maps]
    with torch.no_grad():
        grown = net.forward_intermediates(image(name, size=size + 32))
    return [32 // (g.shape[-1] - m.shape[-1]) for g, m in zip(grown, maps)]


@one_a_family
def test_head_in_two_steps_is_the_head(name):
    net = small(name).eval()
    with torch.no_grad():
        x = image(name)
        made = net.forward_features(x)
        assert apart(net.forward_head(made), net(x)) < 1e-5
        assert net.forward_head(made, pre_logits=True).shape == (2, net.num_features)


@one_classifier_a_family
def test_no_classifier_then_a_new_one(name):
    net = small(name, num_classes=0).eval()
    with torch.no_grad():
        assert net(image(name)).shape[:2] == (2, net.num_features)
        net.reset_classifier(3)
        assert net(image(name)).shape[:2] == (2, 3)


@one_a_family
def test_other_channels(name):
    with torch.no_grad():
        assert small(name, in_chans=5).eval()(image(name, chans=5)).isfinite().all()


@one_a_family
def test_odd_sizes_where_promised(name):
    step, low = facts(name)["multiple"], small_size(name)
    x = image(name, 1, size=low + step * 7)[:, :, : low + step * 3]
    with torch.no_grad():
        assert small(name).eval()(x).isfinite().all()


def kept(net, seed: int) -> dict[str, list[int]]:
    draw = random.Random(seed)
    return {n: sorted(draw.sample(range(w), max(1, int(w * draw.uniform(0.4, 0.9))))) for n, w in widths(net).items()}


@each_path
def test_survives_narrowing_every_width(name):
    net = small(name).double().eval()
    keep = kept(net, 0)
    thin, x = narrow(net, keep), image(name).double()
    with torch.no_grad():
        y = thin(x)
        borrowed = functional_call(narrow(net, keep), slices(net, keep), (x,))
    assert y.isfinite().all()
    assert apart(borrowed, y) < 1e-9
    assert sum(p.numel() for p in thin.parameters()) < sum(p.numel() for p in net.parameters())
    assert thin.num_features == int(thin.head.width)


@each_path
def test_dropped_channels_are_the_ones_that_were_silent(name):
    """A network whose channels are zeroed equals the one that never had them: the layout of every width is right."""
    net = small(name).double().eval()
    x = image(name).double()
    across = {id(a) for m in net.modules() for w in mixed(m) for a in atoms(w)}
    keep = {n: idx for n, idx in kept(net, 1).items() if id(widths(net)[n]) not in across}
    with torch.no_grad():
        if apart(narrow(net, keep)(x), silenced(name, keep)(x)) > 1e-9:  # then which of them is it?
            apart_alone = {n: apart(narrow(net, {n: k})(x), silenced(name, {n: k})(x)) for n, k in keep.items()}
            raise AssertionError(f"{name}: {[n for n, a in apart_alone.items() if a > 1e-9] or 'only together'}")


def mixed(m: torch.nn.Module) -> tuple:
    """Widths whose silent channels still count: norms divide by them, neighbours see them, attention weighs them."""
    if isinstance(m, NeighbourGate | GlobalResponseNorm):
        return (m.dim,)
    if isinstance(m, CrossCovariance):
        return (m.head_dim,)
    if isinstance(m, PositiveAttention):  # a silent key is not 0 but 1
        return (m.keys,)
    if isinstance(m, torch.nn.GroupNorm):
        return (m.num_channels,)
    return tuple(m.normalized_shape) if isinstance(m, torch.nn.LayerNorm | torch.nn.RMSNorm) else ()


def silenced(name: str, keep):
    net = small(name).double().eval()
    for one, idx in keep.items():
        silence(net, widths(net)[one], idx)
    return net


def silence(net, width, keep) -> None:
    if len(keep) == width:  # a single head stays
        return
    gone = {id(width): torch.tensor(sorted(set(range(width)) - set(keep)))}
    for m in net.modules():
        for tensor, dims in axes(m).items():
            t = getattr(m, tensor, None)
            for d, w in enumerate(dims):
                if t is not None and any(id(a) in gone for a in atoms(w)):
                    t.data.index_fill_(d, w.index(gone), 0.0) if len(atoms(w)) == 1 else fill(t.data, d, w, width, gone)


def fill(t, d, w, width, gone) -> None:
    """Zero the dropped channels of one part of a composed width, leaving its other parts."""
    stays = w.index({id(width): torch.tensor(sorted(set(range(width)) - set(gone[id(width)].tolist())))})
    t.index_fill_(d, torch.tensor(sorted(set(range(w)) - set(stays.tolist()))), 0.0)


@each_path
def test_no_dimension_has_lost_its_width(name):
    told = papers.fixed(name)
    known = (*FREE, *(end for entry in told for end in entry.parameters))
    rigid = any(not entry.parameters for entry in told)  # only what blocks widen to can change
    left = {k: dims for k, dims in fixed(small(name)).items() if not k.endswith(known)}
    assert [k for k, dims in left.items() if not (rigid and len(dims) == 1)] == []


@one_a_family
def test_checkpointing_changes_no_gradient(name):
    net = small(name)
    x, grads = image(name), []
    for enable in (False, True):
        net.set_grad_checkpointing(enable)
        net.zero_grad()
        torch.manual_seed(0)
        net.train()(x).square().mean().backward()
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert apart(*grads) < 1e-5


@one_a_family
def test_layer_groups_cover_every_parameter_once(name):
    net = small(name)
    grouped = [k for group in net.layer_groups() for k in group]
    assert sorted(grouped) == sorted(k for k, _ in net.named_parameters())
    assert len(net.layer_groups()) >= 4  # stem, two blocks at least, or one and a norm, head
    assert net.no_weight_decay() <= set(grouped)


@one_a_family
def test_exports(name):
    net = small(name).eval()
    x = image(name)
    program = torch.export.export(net, (x,), strict=False)
    with torch.no_grad():
        assert apart(program.module()(x), net(x)) < 1e-4


@pytest.mark.parametrize("name", [n for n in representatives() if len(facts(n)["output_stride"]) > 1])
@pytest.mark.parametrize("stride", with_slow([16, 8], [8]))
def test_finer_maps_with_the_same_weights(name, stride):
    coarse, fine = opsin.create_model(name), opsin.create_model(name, output_stride=stride)
    fine.load_state_dict(coarse.state_dict())
    with torch.no_grad():
        y = fine.eval().forward_intermediates(image(name))[-1]
    assert small_size(name) // y.shape[-1] == stride == fine.feature_info.reduction()[-1]


LEVELS = [[n for n in names if "levels" in facts(n)["pool"]] for names in (representatives(), each_family())]


@pytest.mark.parametrize("name", with_slow(*LEVELS))
def test_a_head_on_all_levels(name):
    net = opsin.create_model(name, num_classes=4, pool="levels", **lean(name), **cut(name)).eval()
    features = small(name).num_features
    thin = narrow(net, kept(net, 2))
    with torch.no_grad():
        assert net(image(name)).shape == thin(image(name)).shape == (2, 4)
        net.reset_classifier(0)
        assert net(image(name)).shape == (2, features + 2 * sum(net.backbone.widths))
