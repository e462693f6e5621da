"""Columns run backwards: the gradients of plain autograd, from the state of the last column alone."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call
from zoo import apart, randomise

from opsin import narrow, widths
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


def kept(columns: int, reversible: bool) -> int:
    """Numbers that the forward pass stores for the backward pass, but for weights."""
    net, x = network(columns), torch.randn(1, 3, 64, 64).double()
    net.backbone.reversible = reversible
    weights, sizes = {p.data_ptr() for p in net.parameters()}, []

    def pack(t):
        if t.data_ptr() not in weights:
            sizes.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        net(x)
    return sum(sizes)


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
