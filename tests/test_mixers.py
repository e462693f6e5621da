"""Operators by themselves: what must hold exactly, and their formulas written out plainly."""

import torch
from torch import nn

from opsin import create_model, load, save
from opsin.layers import StarReLU
from opsin.mixers.identity import Identity
from opsin.mixers.pooling import Pooling
from opsin.mixers.random import RandomMixing


def test_star_relu_is_its_formula():
    act, x = StarReLU(0.9, -0.4), torch.randn(3, 5)
    assert torch.allclose(act(x), 0.9 * x.clamp(min=0) ** 2 - 0.4)
    assert all(p.requires_grad for p in act.parameters())


def test_pooling_has_no_parameters_and_removes_constants():
    mixer = Pooling(4)
    assert not list(mixer.parameters())
    assert mixer(torch.full((1, 5, 7, 4), 3.0)).abs().max() < 1e-6


def test_pooling_is_the_mean_of_the_neighbours_inside_the_map():
    x = torch.randn(1, 4, 5, 2)
    y = Pooling(2)(x)
    assert torch.allclose(y[0, 0, 0], x[0, :2, :2].mean((0, 1)) - x[0, 0, 0], atol=1e-6)
    assert torch.allclose(y[0, 2, 3], x[0, 1:4, 2:5].mean((0, 1)) - x[0, 2, 3], atol=1e-6)


def test_random_mixing_is_frozen_and_its_rows_sum_to_one():
    mixer, x = RandomMixing(3, (4, 6)), torch.randn(2, 4, 6, 3)
    assert not list(mixer.parameters())
    assert torch.allclose(mixer.matrix.sum(1), torch.ones(24))
    expected = torch.einsum("mn,bnc->bmc", mixer.matrix, x.reshape(2, 24, 3)).reshape(x.shape)
    assert torch.allclose(mixer(x), expected, atol=1e-6)
    constant = torch.full((1, 5, 7, 3), 2.0)  # another grid: the matrix is resampled
    assert torch.allclose(mixer(constant), constant, atol=1e-5)


def test_random_mixing_is_saved(tmp_path):
    net = create_model("randformer_s12", img_size=64, num_classes=3, depths=(1, 1, 1, 1)).eval()
    x = torch.randn(1, 3, 64, 64)
    save(net, tmp_path / "saved")
    torch.manual_seed(5)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "saved").eval()(x), net(x))


def test_a_mixer_is_an_argument_of_the_builder():
    """With no mixing at all every body of the family is IdentityFormer's."""
    torch.manual_seed(0)
    plain = create_model("identityformer_s12", num_classes=3)
    torch.manual_seed(0)
    swapped = create_model("poolformerv2_s12", num_classes=3, mixers=(Identity,) * 4)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(plain.eval()(x), swapped.eval()(x))
    assert isinstance(create_model("poolformer_s12").backbone.stages[0].blocks[0].mixer, Pooling)
    assert not any(isinstance(m, nn.Conv2d) for m in plain.backbone.stages[1].blocks.modules())
