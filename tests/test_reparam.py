"""Branches that train side by side are one convolution afterwards."""

import pytest
import torch
from reference import timm
from timm.utils.model import reparameterize_model
from torch import nn
from zoo import apart, image, randomise, small

from opsin.layers.reparam import ConvSum, reparameterize
from opsin.registry import builder
from opsin.width import narrow, widths

NETWORKS = ("repvgg_a0", "repvgg_b1g4", "repvgg_d2se", "mobileone_s0", "mobileone_s4")


@pytest.mark.parametrize(
    ("kernel", "stride", "groups", "copies"), [(3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 4, 1), (3, 1, 8, 4), (1, 1, 1, 3)]
)
def test_a_sum_of_branches_is_one_convolution(kernel, stride, groups, copies):
    layer = ConvSum(8, 8, kernel, stride, groups, copies).double().eval()
    randomise(layer)
    x = torch.randn(2, 8, 9, 7).double()
    with torch.no_grad():
        assert apart(layer.merged()(x), layer(x)) < 1e-12


@pytest.mark.parametrize("name", NETWORKS)
def test_the_merged_network_is_the_same_function(name):
    net = small(name).double().eval()
    merged, x = reparameterize(net), image(name).double()
    with torch.no_grad():
        assert apart(merged(x), net(x)) < 1e-9
    assert not [m for m in merged.modules() if isinstance(m, ConvSum | nn.BatchNorm2d)]
    assert [m for m in net.modules() if isinstance(m, ConvSum)], "the network given stays as it was"


def test_a_merged_network_can_still_be_narrowed():
    merged = reparameterize(small("mobileone_s0"))
    thin = narrow(merged, {name: max(1, width // 2) for name, width in widths(merged).items()})
    with torch.no_grad():
        assert thin(image("mobileone_s0")).isfinite().all()


@pytest.mark.parametrize("name", ["repvgg_a0", "mobileone_s0"])
def test_as_small_as_timms(name):
    build, variant = builder(name)
    ours = reparameterize(build(**variant))
    theirs = reparameterize_model(timm.create_model(name))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
