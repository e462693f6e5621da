"""Kernels that points draw: their formula, what is kept of them, and that points move."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo import apart, image, randomise, small

from opsin import create_model, narrow, widths
from opsin.deploy.fuse import fuse
from opsin.families.smp_continuous import PictureNet, SeriesNet
from opsin.layers.reparam import reparameterize
from opsin.mixers.point_conv import PointConv1d, PointConv2d
from opsin.mixers.smpconv import SMPConv, tents


def test_a_kernel_is_the_points_tents_tap_by_tap():
    """x to the right, y up; a point counts less the farther a tap is from it, along both axes."""
    conv = SMPConv(3, kernel=5, points=4).double()
    with torch.no_grad():
        conv.radius.uniform_(0.3, 1)
    kernel, at = torch.zeros(3, 5, 5).double(), [-1, -0.5, 0, 0.5, 1]
    for row in range(5):
        for column in range(5):
            for point in range(4):
                x, y = conv.coords[point].tolist()
                far = abs(x - at[column]) + abs(y - at[4 - row])
                near = max(0.0, 1 - far / conv.radius[point].item())
                kernel[:, row, column] += conv.weights[:, point].detach() * near
    assert torch.allclose(conv.drawn()[:, 0], kernel, atol=1e-12)
    x = torch.randn(2, 3, 9, 7).double()
    assert torch.allclose(conv(x), F.conv2d(x, kernel[:, None], padding=2, groups=3), atol=1e-12)


def test_gradients_move_points():
    """A point finds the place from which another one drew a kernel: over to it, and up."""
    conv, other = SMPConv(1, kernel=9, points=1), SMPConv(1, kernel=9, points=1)
    with torch.no_grad():
        for one, at in ((conv, 0.0), (other, 0.5)):
            one.radius.fill_(0.9)
            one.weights.fill_(1.0)
            one.coords.fill_(at)
    optimiser, wanted = torch.optim.Adam([conv.coords], lr=0.02), other.drawn().detach()
    for _ in range(100):
        optimiser.zero_grad()
        F.mse_loss(conv.drawn(), wanted).backward()
        optimiser.step()
    assert (conv.coords - 0.5).abs().max() < 0.05


def test_radii_are_clipped():
    conv = SMPConv(1, 9, points=2)
    with torch.no_grad():
        conv.radius.copy_(torch.tensor([-1.0, 3.0]))
    conv.clip()
    assert torch.allclose(conv.radius, torch.tensor([1e-3, 1.0]))


def test_kernels_are_drawn_once_until_weights_change(monkeypatch):
    conv, x, drawings = SMPConv(4, 7), torch.randn(1, 4, 9, 9), []
    drawn = SMPConv.drawn
    monkeypatch.setattr(SMPConv, "drawn", lambda self: drawings.append(1) or drawn(self))
    with torch.no_grad():
        y = conv(x)
        assert torch.equal(conv(x), y)
        assert len(drawings) == 1
        conv.weights.mul_(2)
        assert torch.allclose(conv(x), 2 * y, atol=1e-6)
        conv.load_state_dict({**conv.state_dict(), "weights": conv.weights / 2})
        assert torch.allclose(conv(x), y, atol=1e-6)
        assert len(drawings) == 3
        assert torch.allclose(copy.deepcopy(conv).double()(x.double()).float(), y, atol=1e-6)
        assert narrow(conv, {"points": 3})(x).isfinite().all()
    conv(x).sum().backward()
    assert all(p.grad is not None for p in conv.parameters())


def test_an_optimisers_step_is_seen_by_the_next_inference():
    conv, x = SMPConv(4, 7), torch.randn(1, 4, 9, 9)
    optimiser = torch.optim.SGD(conv.parameters(), lr=0.1)
    with torch.no_grad():
        before = conv(x)
    conv(x).square().sum().backward()
    optimiser.step()
    with torch.no_grad():
        assert not torch.allclose(conv(x), before)
        assert torch.allclose(conv(x), F.conv2d(x, conv.drawn(), padding=3, groups=4))


def test_a_merged_smpnet_is_the_same_function_of_plain_convolutions():
    net, x = small("smpconv_t").double().eval(), image("smpconv_t").double()
    merged = reparameterize(net)
    with torch.no_grad():
        assert apart(merged(x), net(x)) < 1e-9
        assert apart(fuse(merged)(x), net(x)) < 1e-9
    assert not [m for m in merged.modules() if isinstance(m, SMPConv)]


def test_few_numbers_make_large_kernels():
    conv = SMPConv(96, 31)
    assert sum(p.numel() for p in conv.parameters()) == 3 * 240 + 96 * 240
    assert conv.drawn().numel() == 96 * 31**2


def learns(model: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> bool:
    optimiser, losses = torch.optim.Adam(model.parameters(), lr=1e-2), []
    for _ in range(15):
        optimiser.zero_grad()
        losses.append(F.cross_entropy(model(x), labels))
        losses[-1].backward()
        optimiser.step()
    return losses[-1] < losses[0] / 2


def gratings(side: int) -> torch.Tensor:
    """Eight images of stripes, four widths by turns."""
    at = torch.arange(side) / side * 6.28
    stripes = torch.stack([(f * at + i).sin() for i, f in enumerate((1, 3, 6, 12) * 2)])
    return stripes[:, None, None].expand(-1, 3, side, -1).contiguous()


def test_smpnet_learns():
    torch.manual_seed(0)
    net = create_model("smpconv_t", num_classes=4, depths=(1, 1, 1, 1), dims=(8, 12, 16, 20), kernels=(13, 11, 9, 7))
    before = net.backbone.stages[0].blocks[0].mixer.large[0].coords.detach().clone()
    assert learns(net, gratings(64), torch.arange(8) % 4)
    assert not torch.equal(net.backbone.stages[0].blocks[0].mixer.large[0].coords, before)


def test_series_and_pictures_are_learned():
    torch.manual_seed(0)
    steps = torch.arange(50) / 8
    series = torch.stack([torch.stack([(f * steps).sin(), (f * steps).cos()]) for f in (1.0, 1.5, 2.0, 3.0)])
    net = SeriesNet(2, (8, 8, 12), 4, points=10, radius=0.1)
    assert learns(net, series, torch.arange(4))
    assert int(net.blocks[0].pair1.large.length) == 50
    assert net.eval()(series[..., :30]).shape == (4, 4)
    assert learns(PictureNet(3, (8, 12), 4, kernel=9, points=8), gratings(32), torch.arange(8) % 4)


def test_no_sample_sees_a_later_one():
    conv, x = PointConv1d(2, 3, points=10, radius=0.3), torch.randn(1, 2, 20, requires_grad=True)
    seen = torch.autograd.grad(conv(x)[0, :, 12].sum(), x)[0].abs().sum((0, 1)) > 0
    assert not seen[13:].any()
    assert seen[:13].any()


def test_points_narrow_with_the_channels():
    net = PictureNet(3, (8, 12), 4, kernel=9, points=8).eval()
    randomise(net)
    thin = narrow(net, {name: max(1, w // 2) for name, w in widths(net).items()})
    assert thin(torch.randn(2, 3, 16, 16)).shape == (2, 4)
    with pytest.raises(ValueError, match="odd"):
        PointConv2d(3, 4, size=8)
    assert tents(torch.zeros(1, 1), torch.zeros(1), 5).isfinite().all(), "no radius is divided by zero"
