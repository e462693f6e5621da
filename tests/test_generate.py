"""Sampling by diffusion: of a distribution whose noise is known exactly, and with networks."""

import pytest
import torch
from zoo import small

from opsin.generate import noised, sample, schedule

MEAN, DEVIATION = 0.7, 0.3


def exact(x, t):
    """The noise to expect in images whose pixels are drawn from a normal distribution."""
    left = schedule()[t.long()].view(-1, 1, 1, 1).float()
    variance = left * DEVIATION**2 + 1 - left
    return (1 - left).sqrt() * (x - left.sqrt() * MEAN) / variance


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_exact_noise_leads_to_the_distribution(eta):
    made = sample(exact, (8, 1, 32, 32), steps=1000, eta=eta)  # with fewer the deviation comes out smaller
    assert abs(float(made.mean()) - MEAN) < 0.01
    assert abs(float(made.std()) - DEVIATION) < 0.01


def test_one_step_from_noised_images_is_exact():
    x, noise = torch.randn(2, 3, 2, 8, 8)
    behind = noised(x, torch.tensor([0, 500, 999]), noise, schedule())
    left = schedule()[[0, 500, 999]].view(-1, 1, 1, 1).float()
    assert torch.allclose((behind - (1 - left).sqrt() * noise) / left.sqrt(), x, atol=1e-4)


@pytest.mark.parametrize("name", ["dis_s_8", "lamamba_diff_xl"])
def test_networks_draw_latents_by_class(name):
    net, labels = small(name, num_classes=3).eval(), torch.tensor([0, 2])
    given = dict(shape=(2, 4, 16, 16), steps=3, labels=labels, guidance=1.5)
    made = sample(net, **given)
    assert made.shape == (2, 4, 16, 16)
    assert made.isfinite().all()
    assert torch.equal(made, sample(net, **given))
    assert not torch.equal(made, sample(net, **{**given, "labels": labels.flip(0)}))
    assert not torch.equal(made, sample(net, **given, seed=1))


def test_more_steps_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="1001 steps of a schedule that has 1000"):
        sample(exact, (1, 1, 4, 4), steps=1001)
