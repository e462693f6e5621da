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


def test_conditional_convolution_is_a_kernel_for_each_image():
    """Against a loop over images, each with the sum of its experts' kernels."""
    from torch.nn.functional import conv2d

    from opsin.layers.condconv import CondConv2d, Routing

    for groups, kernel, stride in ((1, 1, 1), (6, 5, 2), (1, 3, 1)):
        conv, route = CondConv2d(6, 6, kernel, 4, stride, groups).double(), Routing(6, 4).double()
        x = torch.randn(3, 6, 9, 8).double()
        routing = route(x)
        assert torch.allclose(routing, torch.sigmoid(x.mean((2, 3)) @ route.weight.T + route.bias))
        experts = conv.weight.chunk(4)
        each = [
            conv2d(image[None], sum(r * e for r, e in zip(row, experts)), None, stride, kernel // 2, 1, groups)
            for image, row in zip(x, routing)
        ]
        assert torch.allclose(conv(x, routing), torch.cat(each), atol=1e-12)


def test_mixed_convolution_is_its_shares_beside_each_other():
    from torch.nn.functional import conv2d

    from opsin.layers.mixconv import MixConv2d, divide

    (shares,) = divide(10, 3)
    assert list(map(int, shares)) == [4, 3, 3]  # what is left over goes to the first
    mix, x = MixConv2d(shares, shares, (3, 5, 7), 2), torch.randn(2, 10, 9, 9)
    parts = zip(x.split([4, 3, 3], 1), mix.convs, (3, 5, 7))
    expected = [conv2d(share, c.weight, None, 2, k // 2, 1, share.shape[1]) for share, c, k in parts]
    assert torch.allclose(mix(x), torch.cat(expected, 1), atol=1e-6)


def test_divisions_of_the_same_channels_agree_on_their_pieces():
    from opsin.layers.mixconv import divide
    from opsin.width import atoms

    halves, thirds = divide(12, 2, 3)
    assert list(map(int, halves)) == [6, 6]
    assert list(map(int, thirds)) == [4, 4, 4]
    assert [a for w in halves for a in atoms(w)] == [a for w in thirds for a in atoms(w)] == [4, 2, 2, 4]


def test_inception_convolution_leaves_most_channels_alone():
    from opsin.mixers.inception import InceptionConv

    mixer, x = InceptionConv(32, band=11), torch.randn(1, 32, 13, 12)
    assert torch.equal(mixer(x)[:, :20], x[:, :20])  # 32 - 3 * 32 / 8
    assert sum(p.numel() for p in mixer.parameters()) == 4 * (9 + 2 * 11) + 3 * 4
    for conv in (mixer.square, mixer.row, mixer.column):  # a one in the middle of each kernel changes nothing
        nn.init.dirac_(conv.weight, groups=4)
        nn.init.zeros_(conv.bias)
    assert torch.equal(mixer(x), x)


def test_partial_convolution_leaves_the_rest_alone():
    from opsin.mixers.partial_conv import PartialConv

    mixer, x = PartialConv(16), torch.randn(1, 16, 7, 7)
    y = mixer(x)
    assert torch.equal(y[:, 4:], x[:, 4:])
    assert torch.equal(y[:, :4], nn.functional.conv2d(x[:, :4], mixer.conv.weight, padding=1))
    assert sum(p.numel() for p in mixer.parameters()) == 9 * 4 * 4


def test_cross_covariance_does_not_care_for_the_order_of_tokens():
    from opsin.mixers.covariance import CrossCovariance

    mixer, x, order = CrossCovariance(12, 3), torch.randn(2, 10, 12), torch.randperm(10)
    assert torch.allclose(mixer(x[:, order]), mixer(x)[:, order], atol=1e-6)


def test_hidden_state_mixer_is_its_explicit_sum():
    from opsin.mixers.hidden_state import HiddenStateMixer

    mixer, x = HiddenStateMixer(6, 4).double(), torch.randn(2, 6, 5, 3).double()
    y, states = mixer(x)
    b, c, dt = mixer.near(mixer.read(x)).flatten(2).chunk(3, 1)
    a = torch.softmax(dt, -1)  # the decay is the same at all places, and drops out
    h = torch.stack([sum((a * b)[:, :, m, None] * x.flatten(2)[:, None, :, m] for m in range(15))], 0)[0]
    inner, z = (h @ mixer.proj.weight.T).chunk(2, -1)
    h = (inner * nn.functional.silu(z) + inner * mixer.skip) @ mixer.out.weight.T
    assert torch.allclose(states, h, atol=1e-12)
    for place in range(15):
        expected = sum(h[:, n] * c[:, n, place, None] for n in range(4))
        assert torch.allclose(y.flatten(2)[:, :, place], expected, atol=1e-12)
    y.sum().backward()
    assert mixer.decay.grad.abs().max() < 1e-12


def test_compound_scaling_gives_the_published_sizes_but_for_rounding_up():
    from opsin import facts
    from opsin.families.efficientnet import SIZES, compound, efficientnet

    for name, phi in {"b0": 0, "b1": 0.5, "b2": 1, "b3": 2, "b4": 3, "b5": 4, "b6": 5, "b7": 6}.items():
        for told, made in zip(SIZES[name], compound(phi)):
            assert 0.94 < told / made < 1.18, (name, told, made)
    assert 1.9 < 1.2 * 1.1**2 * 1.15**2 < 2.1
    wide, deep, pixels = compound(1)
    with torch.device("meta"):
        net = efficientnet(wide, deep)
    assert pixels == 258
    assert sum(p.numel() for p in net.parameters()) == facts("efficientnet_b2")["params"]


def test_thinner_mobilenets_cost_near_the_square_of_their_factors():
    from opsin.families.golden import macs

    whole = None
    for wide, name in (
        (1.0, "mobilenetv1_100"),
        (0.75, "mobilenetv1_075"),
        (0.5, "mobilenetv1_050"),
        (0.25, "mobilenetv1_025"),
    ):
        with torch.device("meta"):
            net = create_model(name).eval()
            for pixels in (224, 192, 160, 128):
                cost = macs(net, torch.empty(1, 3, pixels, pixels))
                whole = whole or cost
                assert 0.97 < cost / (whole * wide**2 * (pixels / 224) ** 2) < 1.45, (name, pixels)


def test_halo_attention_is_full_attention_masked_to_the_same_neighbourhoods():
    from opsin.mixers.halo import HaloAttention

    mixer, x = HaloAttention(8, 2, block=4, halo=1).double(), torch.randn(1, 8, 8, 12).double()
    (h, w), n, halo = x.shape[2:], 4, 1
    pixels = nn.functional.pad(x, (halo,) * 4)  # keys outside the map are zeros that count
    q = mixer.q(x).reshape(2, 4, h * w).mT
    k, v = mixer.kv(pixels).reshape(2, 8, -1).mT.chunk(2, -1)
    qy, qx = (i.flatten() for i in torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
    ky, kx = (i.flatten() for i in torch.meshgrid(torch.arange(h + 2), torch.arange(w + 2), indexing="ij"))
    down = ky - (qy // n * n)[:, None]  # place of a key in the window of a query's block
    along = kx - (qx // n * n)[:, None]
    seen = (down >= 0) & (down < n + 2) & (along >= 0) & (along < n + 2)
    last = 2 * (n + 2) - 2
    row = (down - (qy % n)[:, None] + n + 1).clamp(0, last)
    column = (along - (qx % n)[:, None] + n + 1).clamp(0, last)
    place = torch.einsum("hqd,qkd->hqk", q, mixer.rows[row] + mixer.columns[column])
    logits = (q @ k.mT / 2 + place).masked_fill(~seen, -torch.inf)
    expected = (logits.softmax(-1) @ v).mT.reshape(1, 8, h, w)
    assert torch.allclose(mixer(x), expected, atol=1e-12)
    assert mixer(x[:, :, :7, :9]).shape == (1, 8, 7, 9)
