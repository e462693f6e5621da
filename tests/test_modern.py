"""Operators and heads of the modern convolutional networks: what must hold exactly."""

import pytest
import torch
from torch import nn
from zoo import randomise

from opsin import create_model, narrow, widths
from opsin.heads.horfpn import HorFPN
from opsin.mixers.gnconv import GlobalNear, GnConv


@pytest.mark.parametrize("order", range(1, 6))
def test_a_gated_convolution_is_its_recursion(order):
    conv, x = GnConv(32, order).double(), torch.randn(2, 32, 6, 5).double()
    recursion = conv.recursion
    sizes = [32 // 2**i for i in range(order)][::-1]
    p, q = recursion.proj_in(x).split([sizes[0], sum(sizes)], 1)
    factors = (recursion.spread(q) / 3).split(sizes, 1)
    y = p * factors[0]
    for i in range(1, order):
        y = torch.einsum("oc,bchw->bohw", recursion.steps[i - 1].weight[..., 0, 0], y)
        y = (y + recursion.steps[i - 1].bias[:, None, None]) * factors[i]
    assert torch.allclose(conv(x), conv.proj_out(y), atol=1e-12)


def test_impossible_orders_are_refused():
    for order in (0, 7):
        with pytest.raises(ValueError, match="order"):
            GnConv(32, order)
    with pytest.raises(ValueError, match="halves"):
        GnConv(32, 6, spread=GlobalNear)


def test_a_global_filter_of_ones_passes_its_half_on():
    near = GlobalNear([8], grid=(5, 4)).double()
    with torch.no_grad():
        near.filter.copy_(torch.tensor([1.0, 0.0]))
        x = torch.randn(2, 4, 9, 6).double()
        assert torch.allclose(near.filtered(x), x, atol=1e-12)


def test_a_gated_convolution_takes_a_depthwise_ones_place():
    net = create_model("convnext_atto", num_classes=3, depths=(1, 1, 1, 1)).eval()
    for stage in net.backbone.stages:
        for block in stage.blocks:
            block.dwconv = GnConv(block.dwconv.in_channels, order=2)
    thin, x = narrow(net, {name: max(2, w // 2) for name, w in widths(net).items()}), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert net(x).shape == thin(x).shape == (1, 3)


def test_hornets_pyramid_stands_on_any_backbone():
    net = create_model("hornet_tiny_7x7", num_classes=0, depths=(1, 1, 1, 1)).eval()
    model = nn.ModuleDict({"net": net, "neck": HorFPN(net.backbone.widths, 32)}).eval()
    randomise(model)
    x = torch.randn(1, 3, 64, 96)
    thin = narrow(model, {name: max(1, w // 2) for name, w in widths(model).items()})
    with torch.no_grad():
        for one, channels in ((model, 32), (thin, 16)):
            levels = one["neck"](one["net"].forward_intermediates(x))
            assert [level.shape[1:] for level in levels] == [(channels, 64 // s, 96 // s) for s in (4, 8, 16, 32)] + [
                (channels, 1, 2)
            ]
