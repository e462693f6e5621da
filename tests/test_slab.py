"""SLAB's parts by themselves: the norm's way from one kind to the other, its merging, attention at linear cost."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from zoo import apart, randomise, small

from opsin.layers import advance
from opsin.layers.prepbn import ProgressiveNorm, RepBN, absorbed
from opsin.layers.reparam import reparameterize
from opsin.mixers.sla import SimplifiedAttention


def test_trained_to_the_end_and_merged_a_network_answers_as_before():
    for name in ("slab_deit_t", "slab_swin_t"):
        net = small(name, num_classes=4).train()
        optimiser = torch.optim.SGD(net.parameters(), lr=1e-3)
        for step in range(5):
            advance(net, step / 4)
            optimiser.zero_grad()
            net(torch.randn(4, 3, 64, 64)).logsumexp(1).mean().backward()
            optimiser.step()
        norms = [m for m in net.modules() if isinstance(m, ProgressiveNorm)]
        assert all(m.progress == 1 and m.batch.norm.num_batches_tracked == 5 for m in norms)
        merged = reparameterize(net.double())
        assert not [m for m in merged.modules() if isinstance(m, ProgressiveNorm | RepBN | nn.LayerNorm)]
        x = torch.randn(2, 3, 64, 64).double()
        with torch.no_grad():
            assert apart(merged(x), net.eval()(x)) < 1e-9


def test_a_norm_melts_into_the_linear_layer_behind_it():
    norm, linear = ProgressiveNorm(12), nn.Linear(12, 7)
    randomise(nn.ModuleList([norm, linear]))
    norm, linear = norm.double().eval(), linear.double()
    x = torch.randn(3, 5, 12).double()
    assert apart(absorbed(norm.merged(), linear)(x), linear(norm(x))) < 1e-12


def test_at_the_end_training_and_evaluation_differ_by_batch_statistics_alone():
    norm, x = ProgressiveNorm(6).train(), torch.randn(8, 9, 6)
    norm.progress = 1
    norm.batch.norm.momentum = None  # the cumulative mean: one batch's own statistics
    y = norm(x)
    n = 8 * 9
    norm.batch.norm.running_var *= (n - 1) / n
    assert torch.allclose(norm.eval()(x), y, atol=1e-5)


def test_linear_attention_is_its_formula():
    mixer = SimplifiedAttention(8, 2, (3, 5)).double()
    randomise(mixer)
    x = torch.randn(1, 3, 5, 8).double()
    q, k, v = mixer.qkv(x.flatten(1, 2)).chunk(3, -1)
    q, k = q.relu(), (k + mixer.table).relu()
    expected = []
    for head in range(2):
        at = slice(4 * head, 4 * head + 4)
        scores = q[0, :, at] @ k[0, :, at].T
        local = nn.functional.conv2d(
            v[..., at].mT.unflatten(2, (3, 5)), mixer.dwconv.weight, mixer.dwconv.bias, padding=2, groups=4
        )
        expected.append(scores / (scores.sum(1, keepdim=True) + 1e-6) @ v[0, :, at] + local[0].flatten(1).T)
    assert torch.allclose(mixer(x)[0].flatten(0, 1), mixer.proj(torch.cat(expected, 1)), atol=1e-10)


def test_linear_attention_costs_twice_as_much_for_twice_the_pixels():
    mixer, costs = SimplifiedAttention(32, 4), []
    for side in (16, 32):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            mixer(torch.randn(1, 16, side, 32))
        costs.append(counter.get_total_flops())
    assert 1.99 < costs[1] / costs[0] <= 2
