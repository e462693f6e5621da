"""Operators of the newer convnets and hybrids by themselves: what their papers promise, and their formulas."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from zoo import apart, randomise, small

from opsin import OpsinError, create_model, facts
from opsin.families.ascan import ConvBlock
from opsin.families.ascan_denoiser import AsCANDenoiser, Steps
from opsin.families.dualtoken_vit import DualTokenBlock
from opsin.families.metamixer import FFNetSR
from opsin.families.wavemix import wavemix_segmenter, wavemix_sr
from opsin.heads.ffnet import FFNetHead
from opsin.heads.horfpn import GnConvModule
from opsin.heads.segment import Segmenter
from opsin.heads.upernet import gated, upernet
from opsin.layers import Conv
from opsin.layers.act import GELU
from opsin.layers.cosine import PRODUCT, cosines, dct, idct
from opsin.layers.haar import Haar
from opsin.layers.reparam import reparameterize
from opsin.layers.strips import StripSum
from opsin.mixers.dual_token import GlobalAttention, TokenUpdate
from opsin.mixers.ffnified import FfnifiedAttention
from opsin.mixers.glmix import GLMix
from opsin.mixers.spectrum import DynamicSpectrum
from opsin.mixers.wave import WaveMix


def cost(module: nn.Module, *given: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*given)
    return int(counter.get_total_flops()) // 2


# ---------------------------------------- wavelets ----------------------------------------


@pytest.mark.parametrize("sides", [(8, 12), (7, 5), (1, 2)])
def test_the_haar_transform_loses_nothing(sides):
    haar, x = Haar(), torch.randn(2, 3, *sides).double()
    low, high = haar(x)
    assert torch.allclose(haar.inverse(low, high, sides), x, atol=1e-12)
    assert torch.allclose(low.square().sum() + high.square().sum(), x.square().sum())
    even = nn.functional.pad(x, (0, sides[1] % 2, 0, sides[0] % 2))
    assert torch.allclose(low, 2 * nn.functional.avg_pool2d(even, 2))


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_wave_blocks_keep_the_resolution(levels):
    mixer = WaveMix(16, levels)
    for sides in ((16, 32), (13, 7)):
        assert mixer(torch.randn(2, 16, *sides)).shape == (2, 16, *sides)


def test_wave_networks_segment_and_double():
    x = torch.randn(1, 3, 32, 48)
    assert wavemix_segmenter(5, dim=16, depth=1, levels=2)(x).shape == (1, 5, 32, 48)
    assert wavemix_sr(dim=16, depth=1)(x).shape == (1, 3, 64, 96)
    counted = [sum(p.numel() for p in net.parameters()) for net in (wavemix_segmenter(), wavemix_sr())]
    assert counted == [63164628, 1944867]  # the published networks'


# ---------------------------------------- FFNified attention ----------------------------------------


def test_ffnified_attention_is_two_large_kernels_about_a_gelu():
    mixer = FfnifiedAttention(8).eval()
    randomise(mixer)
    x = torch.randn(2, 8, 9, 11)
    merged = reparameterize(mixer)
    assert [type(m) for m in merged.children()] == [nn.Conv2d, GELU, nn.Conv2d, nn.Conv2d]
    assert merged.keys.kernel_size == merged.values.kernel_size == (7, 7)
    with torch.no_grad():
        assert apart(merged(x), mixer(x)) < 1e-5
        assert torch.equal(merged(x), merged.values(nn.functional.gelu(merged.keys(merged.query(x)))))


@pytest.mark.parametrize(("name", "published"), [("ffnet_1", 13660152), ("ffnet_2", 26908440), ("ffnet_3", 48330632)])
def test_merged_networks_have_the_published_counts(name, published):
    merged = reparameterize(create_model(name))
    assert sum(p.numel() for p in merged.parameters()) == published


def test_pictures_of_twice_the_sides():
    assert FFNetSR(dim=12, depth=2)(torch.randn(1, 3, 9, 7)).shape == (1, 3, 18, 14)
    assert sum(p.numel() for p in FFNetSR().parameters()) == 2381580


# ---------------------------------------- slots ----------------------------------------


def test_places_share_themselves_out_among_slots():
    mixer, x = GLMix(16, 2, slots=9).double(), torch.randn(2, 16, 6, 10).double()
    mixer.scale.data.fill_(20.0)
    maps = mixer.maps(x)
    assert maps.shape == (2, 9, 6, 10)
    assert torch.allclose(maps.sum(1), torch.ones(2, 6, 10).double())
    slots = mixer.attn(mixer.affinity(x).softmax(2) @ x.flatten(2).mT)
    expected = torch.einsum("bnhw,bnc->bchw", maps, slots) + mixer.local(x)
    assert torch.allclose(mixer(x), expected)
    with pytest.raises(ValueError, match="10 slots are no square"):
        GLMix(16, 2, slots=10)


def test_slots_cost_the_same_at_any_resolution():
    mixer = GLMix(32, 4)
    attended = [cost(mixer.attn, mixer.first(torch.randn(1, 32, side, side))) for side in (16, 64)]
    assert attended[0] == attended[1]
    whole = [cost(mixer, torch.randn(1, 32, side, side)) - attended[0] for side in (16, 32)]
    assert whole[1] == 4 * whole[0]


# ---------------------------------------- the cosine spectrum ----------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 16])
def test_cosines_are_orthonormal_and_their_formula(n):
    m = cosines(n)
    assert torch.allclose(m @ m.T, torch.eye(n).double(), atol=1e-12)
    u, i = torch.arange(n)[:, None], torch.arange(n)
    expected = torch.cos(math.pi * (2 * i + 1) * u / (2 * n)) * torch.where(u == 0, 1 / n, 2 / n).sqrt()
    assert torch.allclose(m, expected.double(), atol=1e-6)


@pytest.mark.parametrize("sides", [(5, 8), (PRODUCT + 1, 7), (2 * PRODUCT, PRODUCT + 6)])
def test_spectra_keep_energy_and_go_back(sides):
    x = torch.randn(2, 3, *sides).double()
    y = dct(x)
    assert torch.allclose(y, cosines(sides[0]) @ x @ cosines(sides[1]).T, atol=1e-10)  # products or Fourier transforms
    assert torch.allclose(y.square().sum(), x.square().sum())
    assert torch.allclose(idct(y), x, atol=1e-10)
    flat = dct(torch.ones(1, 1, *sides).double())
    assert flat.flatten()[1:].abs().max() < 1e-10


def test_equal_weights_are_the_identity_and_others_depend_on_the_image():
    mixer, x = DynamicSpectrum(6, grid=(5, 8)).double(), torch.randn(2, 6, 5, 8).double()
    with torch.no_grad():
        assert apart(mixer(2 * x), 2 * mixer(x)) > 1e-6
        mixer.filters.fill_(3.0)
        assert apart(mixer(x), 3 * x) < 1e-12
        assert torch.allclose(mixer(torch.ones(1, 6, 9, 4).double()), torch.tensor(3.0).double())


def test_fixed_coefficients_make_a_symmetric_operator_with_the_weights_as_its_spectrum():
    mixer = DynamicSpectrum(1, count=2, grid=(3, 4)).double()
    mixer.filters.data.normal_()
    for layer in (mixer.weigh[0], mixer.weigh[2]):
        nn.init.zeros_(layer.weight)
    places = torch.eye(12).double().reshape(12, 1, 3, 4)
    with torch.no_grad():
        matrix = mixer(places).reshape(12, 12)
        weights = mixer.spectrum(places[:1]).flatten()
    assert torch.allclose(matrix, matrix.T, atol=1e-12)
    assert torch.allclose(torch.linalg.eigvalsh(matrix), weights.sort().values, atol=1e-10)


# ---------------------------------------- global tokens ----------------------------------------


def test_global_tokens_run_through_all_stages():
    net = small("dualtoken_vit_t").eval()
    with torch.no_grad():
        states = net.backbone(torch.randn(2, 3, 96, 64)).states
    assert [tuple(g.shape) for g in states] == [(2, 49, width) for width in (64, 128, 256)]


def test_tokens_are_updated_by_their_own_part_of_the_map():
    update, g, x = TokenUpdate(2), torch.randn(1, 4, 3), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        update.alpha.fill_(1.0)
        assert torch.equal(update(g, x), g)
        update.alpha.fill_(0.0)
        assert torch.equal(update(g, x), update(torch.zeros(1, 4, 3), x))
        swapped = torch.cat([x[..., 4:], x[..., :4]], -1)  # left and right halves
        assert torch.allclose(update(g, swapped), update(g, x)[:, [1, 0, 3, 2]])


def test_attention_to_global_tokens_knows_no_order_and_costs_in_proportion():
    mixer, g = GlobalAttention(32, 4, steps=0).eval(), torch.randn(1, 49, 32)
    x = torch.randn(1, 32, 14, 14)
    with torch.no_grad():
        assert torch.allclose(mixer(x, g[:, torch.randperm(49)]), mixer(x, g), atol=1e-5)
    costs = [cost(mixer, torch.randn(1, 32, side, 14), g) for side in (14, 28, 56)]
    assert costs[2] - costs[1] == 2 * (costs[1] - costs[0])


def test_fusion_can_choose_the_local_tokens_alone():
    block = DualTokenBlock(8, 2, 0).eval()
    randomise(block)
    with torch.no_grad():
        block.fuse.weight.zero_()
        block.fuse.bias.zero_()
        block.fuse.weight[:, :8, 0, 0] = torch.eye(8)
        x, others = torch.randn(1, 8, 7, 7), torch.randn(2, 1, 49, 8)
        assert torch.equal(block(x, others[0])[0], block(x, others[1])[0])
        y = x + block.local(x)
        assert torch.allclose(block(x, others[0])[0], y + block.mlp(block.norm2(y)), atol=1e-6)


@pytest.mark.parametrize(("name", "published"), [("dualtoken_vit_t", 0.5e9), ("dualtoken_vit_s", 1.0e9)])
def test_the_scales_are_the_papers(name, published):
    assert abs(facts(name)["macs"] / published - 1) < 0.05


# ---------------------------------------- asymmetric stages ----------------------------------------


def test_attention_never_gets_rarer_with_depth():
    for pattern in (("CT", "CC", "TT"), ("CC", "CT", "CC"), ("CC", "CC", "CCT"), ("CC", "CX"), ("CC", "")):
        with pytest.raises(OpsinError, match="pattern"):
            create_model("ascan_t", pattern=pattern, dims=(8, 16, 32)[: len(pattern)])


def test_patterns_add_up():
    """Another block of one kind costs what one costs, and no other part changes."""

    def count(pattern):
        with torch.device("meta"):
            return sum(p.numel() for p in create_model("ascan_t", pattern=pattern, dims=(32, 64, 96)).parameters())

    with torch.device("meta"):
        one = sum(p.numel() for p in ConvBlock(64, 64).parameters())
    assert count(("CC", "CCC", "TT")) - count(("CC", "CC", "TT")) == one
    counts = [count(("CC", "CC" + "T" * n, "TT")) for n in range(3)]
    assert counts[1] - counts[0] == counts[2] - counts[1] > 0


def test_only_stages_with_attention_cost_more_than_their_pixels():
    convs = create_model("ascan_t", pattern=("CC", "CC", "CT"), dims=(16, 16, 32)).backbone
    early = nn.Sequential(convs.stem, *convs.stages[:2])
    gates = sum(m.numel() for p, m in early.named_parameters() if "gate" in p and p.endswith("weight"))
    small_, large = (cost(early, torch.randn(1, 3, side, side)) for side in (64, 128))
    assert large - gates == 4 * (small_ - gates)
    late = convs.stages[2].blocks[1][1].op.mixer.attn
    attended = [cost(late, torch.randn(1, n, 32)) - 4 * n * 32 * 32 for n in (16, 64)]
    assert attended[1] == 16 * attended[0]


# ------------------------------------- heads for pixels: FFNet's, UPerNet -------------------------------------


def test_ffnets_head_stands_on_any_backbone():
    assert sum(p.numel() for p in FFNetHead((192, 384, 768), 150).parameters()) == 4650518
    net = create_model("ffnet_1", depths=(1, 1, 1, 1), num_classes=0)
    model = Segmenter(net, (1, 2, 3), FFNetHead(net.backbone.widths[1:], 3, dim=16, depth=1)).train()
    model(torch.randn(2, 3, 50, 70)).square().mean().backward()
    assert all(p.grad is not None for p in model.head.parameters())
    randomise(model)
    x = torch.randn(1, 3, 64, 96).double()
    with torch.no_grad():
        y = model.double().eval()(x)
        merged = reparameterize(model)
        assert apart(merged(x), y) < 1e-9
    assert y.shape == (1, 3, 64, 96)
    assert not any(isinstance(m, StripSum) for m in merged.modules())


def test_strips_are_one_kernel():
    conv = StripSum(4, 9).double()
    randomise(conv)
    x = torch.randn(2, 4, 20, 11).double()
    assert apart(conv.eval().merged()(x), conv(x)) < 1e-12
    assert len(StripSum(4, 3).branches) == 3


@pytest.mark.parametrize("name", ["hornet_tiny_7x7", "resnet18"])
@pytest.mark.parametrize("fuse", [Conv, gated])
def test_upernet_with_hornets_fusion_stands_on_any_backbone(name, fuse):
    net = small(name)
    model, x = upernet(net, 5, 16, fuse).train(), torch.randn(2, 3, 64, 96)
    model(x).square().mean().backward()
    assert all(p.grad is not None for p in model.head.parameters())
    assert model(x).shape == (2, 5, 64, 96)
    assert isinstance(model.head.fuse[0], GnConvModule) == (fuse is gated)


# ------------------------------------------- AsCAN's denoiser -------------------------------------------


def denoiser(**given) -> AsCANDenoiser:
    torch.manual_seed(0)
    return AsCANDenoiser(3, ("C", "CCT", "TT"), (8, 16, 24), size=8, side=8, **given)


def test_the_way_up_mirrors_the_way_down():
    net = denoiser()
    for down, up in zip(net.downs, net.ups):
        assert [type(block) for block in up] == [type(block) for block in reversed(down)]
    randomise(net)
    t, labels = torch.tensor([3.0, 900.0]), torch.tensor([0, 3])
    for size in ((8, 8), (12, 20)):
        x = torch.randn(2, 4, *size)
        assert net(x, t, labels).shape == x.shape
    assert not torch.allclose(net(x, t, labels), net(x, t, labels.flip(0)))
    assert not torch.allclose(net(x, t, labels), net(x, t.flip(0), labels))
    with pytest.raises(OpsinError, match="never fall"):
        AsCANDenoiser(3, ("CT", "CC"), (8, 16))


def test_blocks_of_the_denoiser_start_as_the_identity():
    net, x = denoiser(), torch.randn(1, 4, 8, 8)
    plain = denoiser()
    plain.load_state_dict(net.state_dict(), strict=False)
    plain.downs, plain.ups = (nn.ModuleList(Steps() for _ in net.downs) for _ in range(2))
    t, labels = torch.tensor([5.0]), torch.tensor([1])
    assert torch.equal(net(x, t, labels), plain(x, t, labels))


def test_the_denoiser_learns_noise_apart_by_class():
    net, draw = denoiser(), torch.Generator().manual_seed(0)
    clean, labels = torch.randn(3, 4, 8, 8, generator=draw), torch.arange(3)
    noise, share = torch.randn(3, 4, 8, 8, generator=draw), torch.tensor([0.2, 0.5, 0.8]).view(3, 1, 1, 1)
    noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
    optimiser, losses = torch.optim.AdamW(net.parameters(), lr=3e-3), []
    for _ in range(25):
        optimiser.zero_grad()
        losses.append((net(noisy, share.flatten() * 1000, labels) - noise).square().mean())
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0] / 2
