"""Columns and couplings run backwards: the gradients of plain autograd, from the last state alone; and images again."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call
from zoo import apart, randomise

from opsin import OpsinError, create_model, narrow, widths
from opsin.families.i_revnet import i_revnet
from opsin.families.revcol import last_too, next_above, revcol
from opsin.families.revcol_supervision import Supervised, supervision
from opsin.layers import DropPath
from opsin.width import slices


def network(columns: int = 4, **given):
    torch.manual_seed(0)
    net = revcol((8, 12, 16, 24), (1, 2, 1, 1), columns, num_classes=5, **given).double()
    randomise(net)
    return net.train()


def gradients(net, x, reversible: bool) -> torch.Tensor:
    net.backbone.reversible = reversible
    net.zero_grad()
    x = x.clone().requires_grad_()
    torch.manual_seed(7)
    net(x).square().sum().backward()
    return torch.cat([x.grad.flatten(), *[p.grad.flatten() for p in net.parameters() if p.requires_grad]])


@pytest.mark.parametrize("above", [next_above, last_too])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_gradients_are_those_of_plain_autograd(above, rate):
    net, x = network(above=above, drop_path_rate=rate), torch.randn(3, 3, 64, 96).double()
    assert any(m.rate for m in net.modules() if isinstance(m, DropPath)) == bool(rate)
    assert apart(gradients(net, x, True), gradients(net, x, False)) < 1e-9


def test_random_numbers_go_on_as_if_nothing_was_computed_twice():
    net, x = network(drop_path_rate=0.5), torch.randn(2, 3, 64, 64).double()
    after = []
    for reversible in (True, False):
        gradients(net, x, reversible)
        after.append(torch.rand(3))
    assert torch.equal(*after)


def test_gains_near_zero_are_held_off_it_and_still_learn():
    net, x = network(), torch.randn(2, 3, 64, 64).double()
    with torch.no_grad():
        net.backbone.blocks[2].keeps[1].gamma.fill_(1e-5)
    grads = gradients(net, x, True)
    assert apart(grads, gradients(net, x, False)) < 1e-6
    assert net.backbone.blocks[2].keeps[1].gamma.grad.abs().min() > 0


def test_frozen_weights_and_a_frozen_stem():
    net, x = network(), torch.randn(2, 3, 64, 64).double()
    for name, p in net.named_parameters():
        p.requires_grad_(not name.startswith(("backbone.stem", "backbone.blocks.1.levels.2")))
    assert apart(gradients(net, x, True), gradients(net, x, False)) < 1e-9


def test_a_thin_network_trains_the_thick_ones_weights():
    net, x = network(), torch.randn(2, 3, 64, 64).double()
    keep = {name: max(1, w // 2) for name, w in widths(net).items() if not name.startswith("head")}
    thin, grads = narrow(net, keep), []
    for reversible in (True, False):
        thin.backbone.reversible = reversible
        net.zero_grad()
        functional_call(thin, slices(net, keep), (x,)).square().sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert apart(*grads) < 1e-9


def test_mixed_precision_gives_finite_gradients_near_the_full_ones():
    net, x = network().float(), torch.randn(2, 3, 64, 64)
    full = gradients(net, x, True)
    with torch.autocast("cpu", torch.bfloat16):
        half = gradients(net, x, True)
    assert torch.nn.functional.cosine_similarity(half, full, 0) > 0.98


def stored_by(net, x) -> int:
    """Numbers that the forward pass stores for the backward pass, but for weights."""
    weights, sizes = {p.data_ptr() for p in net.parameters()}, []

    def pack(t):
        if t.data_ptr() not in weights:
            sizes.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        net(x)
    return sum(sizes)


def kept(columns: int, reversible: bool) -> int:
    net = network(columns)
    net.backbone.reversible = reversible
    return stored_by(net, torch.randn(1, 3, 64, 64).double())


def test_what_is_stored_does_not_grow_with_the_columns():
    assert kept(4, True) == kept(12, True)
    assert kept(12, False) > 2.5 * kept(4, False) > 10 * kept(4, True)


def test_supervision_trains_every_part():
    net = network().float()
    model, x = Supervised(net, 5).train(), torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3])
    optimiser, losses = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    for _ in range(8):
        optimiser.zero_grad()
        logits, images = model(x)
        losses.append(supervision(logits, images, labels, x))
        losses[-1].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimiser.step()
    assert [y.shape for y in logits] == [(4, 5)] * 4
    assert [y.shape for y in images] == [x.shape] * 3
    assert losses[-1] < losses[0]
    with pytest.raises(ValueError, match="6 columns"):
        Supervised(network(6), 5)


def test_supervision_is_its_formula():
    draw = torch.Generator().manual_seed(0)
    logits, images = torch.randn(4, 2, 5, generator=draw), torch.randn(3, 2, 3, 4, 4, generator=draw)
    labels, pixels = torch.tensor([1, 4]), torch.rand(2, 3, 4, 4, generator=draw)
    expected = F.cross_entropy(logits[3], labels)
    for k in range(3):
        p, t = images[k].sigmoid(), pixels.clamp(0.01, 0.99)
        expected += -(t * p.log() + (1 - t) * (1 - p).log()).mean() * (1 - k / 3) * 3.0
        expected += F.cross_entropy(logits[k], labels) * (k + 1) / 4 * 0.7
    assert torch.allclose(supervision([*logits], [*images], labels, pixels), expected, atol=1e-5)


FORMS = {
    "bijective": dict(depths=(2, 2, 1), strides=(2, 2, 2), share=8),
    "injective": dict(depths=(3, 2, 2), strides=(1, 2, 2), dims=(8, 32, 128), squeeze=1),
    "widened twice": dict(depths=(2, 2), strides=(1, 1), dims=(6, 10), squeeze=2, share=2),
}
each_form = pytest.mark.parametrize("form", FORMS)


def coupled(form: str, **given):
    torch.manual_seed(0)
    net = i_revnet(**FORMS[form], num_classes=5, **given).double()
    randomise(net)
    return net.train()


@each_form
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_couplings_have_the_gradients_and_statistics_of_plain_autograd(form, rate):
    net, x = coupled(form, dropout=rate, drop_path_rate=rate), torch.randn(4, 3, 32, 48).double()
    before = {k: b.clone() for k, b in net.named_buffers()}
    there = gradients(net, x, True)
    counted = {k: b.clone() for k, b in net.named_buffers()}
    net.load_state_dict(before, strict=False)
    assert apart(there, gradients(net, x, False)) < 1e-9
    assert all(torch.allclose(b, counted[k], atol=1e-12) for k, b in net.named_buffers())
    assert not torch.equal(before["head.before.0.running_mean"], counted["head.before.0.running_mean"])


@each_form
def test_every_map_is_taken_back_to_the_image(form):
    net, x = coupled(form), torch.randn(2, 3, 32, 64).double()
    with pytest.raises(OpsinError, match=r"call \.eval\(\)"):
        net.backbone.inverse(net.forward_intermediates(x)[-1])
    maps = net.eval().forward_intermediates(x)
    for tap, m in enumerate(maps):
        assert apart(net.backbone.inverse(m, tap), x) < 1e-12
        assert m[0].numel() == x[0].numel() or form != "bijective"


def test_a_bijective_networks_maps_are_all_taken_to_images_and_back():
    net = coupled("bijective").eval()
    m = torch.randn(2, 768, 3, 4).double()
    assert apart(net.forward_intermediates(net.backbone.inverse(m))[-1], m) < 1e-12


@pytest.mark.parametrize("name", ["i_revnet_cifar", pytest.param("i_revnet_b", marks=pytest.mark.slow)])
def test_published_depths_are_inverted_in_single_precision(name):
    torch.manual_seed(0)
    net, x = create_model(name).eval(), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert apart(net.backbone.inverse(net.forward_intermediates(x, 1)[0]), x) < 1e-3


def test_gradients_in_single_precision_at_the_published_depth():
    torch.manual_seed(0)
    net, x = create_model("i_revnet_cifar", dropout=0.0).train(), torch.randn(4, 3, 16, 16)
    assert F.cosine_similarity(gradients(net, x, True), gradients(net, x, False), 0) > 0.9999


@pytest.mark.parametrize("given", [dict(strides=(2, 2)), dict(strides=(1, 2), dims=(16, 64), squeeze=1)])
def test_what_couplings_store_does_not_grow_with_the_blocks(given):
    stored = {}
    for reversible in (True, False):
        for depth in (2, 6):
            net = i_revnet((depth, depth), **given).train()
            net.backbone.reversible = reversible
            stored[reversible, depth] = stored_by(net, torch.randn(2, 3, 32, 32))
    assert stored[True, 2] == stored[True, 6]
    assert stored[False, 6] > 2 * stored[False, 2] > 2 * stored[True, 2]


def test_an_invertible_network_learns():
    net, draw = coupled("injective").float(), torch.Generator().manual_seed(0)
    x, labels = torch.randn(8, 3, 16, 16, generator=draw), torch.arange(8) % 5
    optimiser, losses = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9), []
    for _ in range(12):
        optimiser.zero_grad()
        losses.append(F.cross_entropy(net(x), labels))
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0] / 4


def test_channels_that_cannot_be_carried_are_told():
    with pytest.raises(OpsinError, match="dims=24 keeps them"):
        i_revnet((1, 1), (2, 2), dims=(32, 96))
    with pytest.raises(OpsinError, match="3 channels at a stride of 2"):
        i_revnet((1,), (2,), squeeze=1)
    with pytest.raises(OpsinError, match="multiples of 2"):
        coupled("bijective").eval()(torch.randn(1, 3, 30, 33).double())
