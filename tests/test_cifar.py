"""Networks for images of 32 pixels: published counts, and ResNeXt's block in its three forms."""

import pytest
import torch
from zoo import apart, randomise

import opsin
from opsin.blocks.paths import EarlyConcat, SummedPaths
from opsin.errors import OpsinError
from opsin.families.resnet_cifar import grouped

COUNTS = {
    "resnet20_cifar": 269_722,
    "resnet110_cifar": 1_727_962,
    "resnet1202_cifar": 19_421_274,
    "resnet164_cifar": 1_704_154,
    "resnext29_8x64d_cifar": 34_426_698,
    "wrn_16_1_cifar": 175_066,
    "wrn_28_10_cifar": 36_479_194,
    "wrn_40_4_cifar": 8_949_210,
    "densenet40_k12_bc_cifar": 176_122,
    "densenet100_k12_bc_cifar": 769_162,
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_published_ones(name):
    with torch.device("meta"):
        net = opsin.create_model(name)
    assert sum(p.numel() for p in net.parameters()) == COUNTS[name]


@pytest.mark.parametrize("form", [EarlyConcat, SummedPaths])
def test_three_forms_of_one_block(form):
    block = grouped(32, 64, 2, groups=4, base=16).double()
    randomise(block)
    x = torch.randn(2, 32, 10, 8).double()
    with torch.no_grad():
        assert apart(form(block).eval()(x), block.eval()(x)) < 1e-12


def test_depths_and_widths_that_make_no_network():
    with pytest.raises(OpsinError, match="6n \\+ 4 layers, not 27: take 22"):
        opsin.create_model("wrn_16_4_cifar", layers=27)
    with pytest.raises(OpsinError, match="do not make 41 layers"):
        opsin.create_model("densenet40_k12_bc_cifar", layers=41)
    with pytest.raises(OpsinError, match="groups of none"):
        opsin.create_model("resnext29_32x4d_cifar", dims=(32, 64, 128))
