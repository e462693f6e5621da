"""Operators and heads of the modern convolutional networks: what must hold exactly."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from zoo import apart, image, randomise, small

from opsin import create_model, facts, narrow, widths
from opsin.blocks.modality import ClipToImage, MapToTokens, SeriesToImage, SpectrogramToImage
from opsin.blocks.points import ANGLES, PointClassifier, PointsToImages, Views
from opsin.deploy.fuse import fuse
from opsin.heads.horfpn import HorFPN
from opsin.layers.reparam import reparameterize
from opsin.mixers.additive import AdditiveAttention
from opsin.mixers.dilated_sum import BRANCHES, DilatedSum
from opsin.mixers.gnconv import GlobalNear, GnConv
from opsin.mixers.local_attention import LocalValueAttention
from opsin.mixers.mix_shift import MixShift
from opsin.mixers.modulation import ScaleAwareModulation
from opsin.mixers.recattn import PositiveAttention, linear, paired
from opsin.mixers.recconv import RecConv
from opsin.mixers.spanning import INVERSE, SpanningAttention, close, remote
from opsin.mixers.spectral import BEYOND, INSIDE, ON, SpectralFilter


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


@pytest.mark.parametrize("kernel", BRANCHES)
def test_dilated_branches_are_one_large_kernel(kernel):
    mixer = DilatedSum(4, kernel).double().eval()
    randomise(mixer)
    x = torch.randn(2, 4, 11, 9).double()
    assert all(d * (k - 1) + 1 <= kernel for k, d in BRANCHES[kernel])
    assert apart(mixer.merged()(x), mixer(x)) < 1e-12


def test_a_merged_unireplknet_is_the_same_function_with_fewer_parts():
    net, x = small("unireplknet_a").double().eval(), image("unireplknet_a").double()
    merged = reparameterize(net)
    with torch.no_grad():
        assert apart(merged(x), net(x)) < 1e-9
    assert not [m for m in merged.modules() if isinstance(m, nn.BatchNorm2d | DilatedSum)]
    assert not [name for name, _ in merged.named_parameters() if name.endswith(("gamma", "mlp.norm.bias"))]
    assert [m for m in net.modules() if isinstance(m, DilatedSum)], "the network given stays as it was"


def learns(model: nn.Module, x: torch.Tensor, target: torch.Tensor, loss: nn.Module) -> bool:
    """Whether some steps on one batch lower its loss, with a gradient everywhere."""
    optimiser, seen = torch.optim.AdamW(model.parameters(), lr=2e-4), []
    for _ in range(12):
        optimiser.zero_grad()
        seen.append(loss(model(x), target))
        seen[-1].backward()
        optimiser.step()
    return seen[-1] < seen[0] and all(p.grad is not None for p in model.parameters())


def reader(num_classes: int, in_chans: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return create_model(
        "unireplknet_a", num_classes=num_classes, in_chans=in_chans, depths=(1, 1, 1, 1), dims=(16, 24, 32, 40)
    )


def test_a_network_of_images_hears():
    """Tones of different pitch, as spectrograms (B, time, frequency)."""
    tones = torch.zeros(4, 96, 64)
    for i in range(4):
        tones[i, :, 16 * i] = 5.0
    x = SpectrogramToImage(mean=1.0, std=2.0)(tones)
    assert x.shape == (4, 1, 64, 96)
    assert x[1, 0, 16, 3] == (5 - 1) / 2
    model = nn.Sequential(SpectrogramToImage(), reader(4, in_chans=1))
    assert learns(model, tones, torch.arange(4), nn.CrossEntropyLoss())


def test_a_network_of_images_sees_clips():
    clips = torch.randn(2, 3, 16, 24, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ClipToImage()(clips).flatten(), clips.flatten())
    assert learns(nn.Sequential(ClipToImage(), reader(2)), clips, torch.arange(2), nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match="15 frames"):
        ClipToImage()(clips[:, :, :15])


def test_a_network_of_images_reads_series():
    """Sines of several series to the tokens that a decoder reads; a linear one has to foretell the next value."""
    steps, dim = torch.arange(36) / 5, 16
    series = torch.stack([(steps + phase).sin() for phase in range(3)])
    embedded = (series[..., None] * torch.linspace(0.5, 1.5, dim)).float()  # (N, L, D)
    net = reader(0, in_chans=1)

    class Forecast(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.image, self.backbone, self.tokens = SeriesToImage(), net.backbone, MapToTokens()
            self.decoder = nn.Linear(40, 1)

        def forward(self, x):
            return self.decoder(self.tokens(self.backbone(self.image(x)).maps[-1])).mean((1, 2))

    assert SeriesToImage()(embedded).shape == (3, 1, 24, 24)
    assert MapToTokens()(torch.zeros(3, 40, 2, 3)).shape == (3, 6, 40)
    assert learns(Forecast(), embedded, (torch.tensor(7.2) + torch.arange(3)).sin(), nn.MSELoss())
    with pytest.raises(ValueError, match="square"):
        SeriesToImage()(embedded[:, :35])


def test_a_network_of_images_sees_point_clouds():
    """A ball and a rod, seen from four sides."""
    draw = torch.Generator().manual_seed(0)
    ball = nn.functional.normalize(torch.randn(2, 60, 3, generator=draw), dim=-1)
    rod = torch.randn(2, 60, 3, generator=draw) * torch.tensor([1.0, 0.05, 0.05])
    torch.manual_seed(0)
    model = PointClassifier(PointsToImages(views=4, side=42, k=6, dim=16, extent=36), reader(0), 2)
    clouds = torch.cat([ball, rod])
    assert model.images(clouds).shape == (16, 3, 42, 42)
    assert learns(model, clouds, torch.tensor([0, 0, 1, 1]), nn.CrossEntropyLoss())


def test_every_point_is_in_every_picture():
    points, features = torch.randn(2, 50, 3), torch.rand(2, 5, 50)
    views = Views(len(ANGLES), side=64, extent=60)
    pictures = views(points, features)
    total = 9 * features.sum(2).repeat_interleave(len(ANGLES), 0)
    assert torch.allclose(pictures.sum((2, 3)), total, rtol=1e-4)
    assert torch.allclose(views.turns @ views.turns.mT, torch.eye(3).double().expand(len(ANGLES), 3, 3), atol=1e-12)
    with pytest.raises(ValueError, match="even"):
        Views(2, 64, 61)
    assert Views(2, 64, 60)(torch.zeros(1, 9, 3), torch.rand(1, 2, 9)).isfinite().all()


@pytest.mark.parametrize("level", range(5))
def test_a_recursive_convolution_reaches_far_with_few_kernels(level):
    """What one pixel reaches, on a map that is larger, is about kernel * 2^level wide."""
    conv = RecConv(1, 5, level).double()
    for weight in conv.parameters():
        nn.init.ones_(weight)
    assert len(list(conv.parameters())) == (level + 2 if level else 1)
    x = torch.zeros(1, 1, 256, 256).double()
    x[..., 128, 128] = 1
    reached = int((conv(x)[0, 0] != 0).any(0).sum())
    assert 5 * 2**level <= reached <= 13 * 2**level
    assert conv(torch.zeros(2, 1, 19, 26).double()).shape == (2, 1, 19, 26)


def test_both_orders_of_positive_attention_are_weighted_means():
    q, k, v = torch.rand(3, 2, 4, 8, 30).double()
    weights = q.mT @ k
    expected = (weights / weights.sum(-1, keepdim=True) @ v.mT).mT
    for attend in (linear, paired):
        assert apart(attend(q, k, v), expected) < 1e-4  # but for what keeps from dividing by zero
    mixer, x = PositiveAttention(8, heads=2).eval(), torch.randn(1, 8, 5, 6)
    assert mixer(x).shape == x.shape


@pytest.mark.parametrize(
    ("name", "params"), [("recnext_m0", 2_502_400), ("recnext_a0", 2_775_200), ("recnext_t_share_channel", 12_049_800)]
)
def test_a_fused_recnext_is_the_published_one(name, params):
    assert (
        sum(p.numel() for p in fuse(reparameterize(create_model(name))).parameters()) == params < facts(name)["params"]
    )
    net, x = small(name).double().eval(), image(name).double()
    fused = fuse(reparameterize(net))
    with torch.no_grad():
        assert apart(fused(x), net(x)) < 1e-9


def test_a_teachers_classifier_stands_beside_the_labels():
    net, x = small("recnext_m0", num_classes=3).eval(), image("recnext_m0")
    with torch.no_grad():
        labels, teacher = net.head.fc.both(net.forward_head(net.forward_features(x), pre_logits=True))
        assert torch.allclose(net(x), (labels + teacher) / 2, atol=1e-6)
        assert not torch.allclose(labels, teacher)


def test_windows_are_laid_out_and_gathered_again():
    """On a map of pixel numbers: neighbours in one layout, the whole map in steps in the other."""
    x = torch.arange(6 * 8).view(1, 1, 6, 8)
    near, far = close(x, 3, 4), remote(x, 3, 4)
    assert near[0, 1, 0, 0].tolist() == x[0, 0, 3:6, 0:4].tolist()
    assert far[0, 1, 0, 0].tolist() == x[0, 0, 1::2, 0::2].tolist()
    assert torch.equal(INVERSE[close](near), x)
    assert torch.equal(INVERSE[remote](far), x)


def test_spanning_attention_sees_the_whole_map():
    """A change of one pixel reaches every other through near and remote windows, one behind the other."""
    mixer = SpanningAttention(16, head_dim=8, window=4).double()
    x = torch.randn(1, 16, 16, 16).double().requires_grad_()
    reached = torch.autograd.grad(mixer(mixer(x))[..., 3, 5].sum(), x)[0].abs().sum((0, 1)) > 0
    once = torch.autograd.grad(mixer(x)[..., 3, 5].sum(), x)[0].abs().sum((0, 1)) > 0
    assert reached.all()
    assert once.sum() == 16 + 16 - 1
    with pytest.raises(ValueError, match="heads"):
        SpanningAttention(20, head_dim=8)


def test_modulation_gives_each_head_its_kernel():
    """A pixel's change is seen as far as the largest of 3x3, 5x5, 7x7 and 9x9, and not farther."""
    mixer = ScaleAwareModulation(16).eval()
    x = torch.randn(1, 15, 15, 16, requires_grad=True)
    reached = torch.autograd.grad(mixer(x)[:, 7, 7].sum(), x)[0].abs().sum((0, 3)) > 0
    assert [conv.kernel_size[0] for conv in mixer.convs] == [3, 5, 7, 9]
    assert reached[3:12, 3:12].all()
    assert reached.sum() == 81
    with pytest.raises(ValueError, match="divisor"):
        ScaleAwareModulation(18)


def test_the_third_stage_of_smt_takes_turns():
    kinds = [type(block.mixer) for block in create_model("smt_t").backbone.stages[2].blocks]
    assert kinds == [ScaleAwareModulation, LocalValueAttention] * 4


def test_cas_vit_runs_in_another_runtime(tmp_path):
    import onnxruntime

    net = small("rcvit_xs", num_classes=5).eval()
    path, x = tmp_path / "net.onnx", torch.randn(1, 3, 96, 64)
    torch.onnx.export(net, (x,), str(path), input_names=["x"], dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(path))
    made = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
    with torch.no_grad():
        assert apart(made, net(x)) < 1e-3


def test_additive_attention_costs_by_the_place():
    """Four times the places, four times the operations."""
    mixer = AdditiveAttention(8)
    costs = []
    for side in (16, 32):
        with FlopCounterMode(display=False) as counter:
            mixer(torch.randn(1, 8, side, side))
        costs.append(counter.get_total_flops() - 2 * 2 * 8 * 8)  # but for the channels' gates, one place each
    assert costs[1] == 4 * costs[0]


def test_bands_of_frequencies_are_apart_and_add_up():
    low, high = SpectralFilter((16, 16), 3, share=1.0).double(), SpectralFilter((16, 16), 3, share=0.0).double()
    x = torch.randn(2, 3, 16, 16).double()
    frequencies = torch.fft.fftshift(torch.fft.fft2(x), dim=(2, 3))
    at = low.places
    kept = torch.fft.fftshift(torch.fft.fft2(low(x)), dim=(2, 3))
    assert torch.allclose(kept[..., at == INSIDE], frequencies[..., at == INSIDE])
    assert kept[..., at == BEYOND].abs().max() < 1e-10
    circle = frequencies * (at == ON) / 3  # of which both let a third pass
    rest = torch.fft.ifft2(torch.fft.ifftshift(circle, dim=(2, 3))).real
    assert torch.allclose(low(x) + high(x) + rest, x, atol=1e-10)
    assert torch.allclose(low(x.roll(5, 3)), low(x).roll(5, 3), atol=1e-10)
    assert torch.equal(
        SpectralFilter((8, 8), 3).weights(16, 16, x.dtype), SpectralFilter((16, 16), 3).weights(16, 16, x.dtype)
    )


def test_mixing_and_shifting_is_rolling_and_convolving():
    mixer, x = MixShift(13), torch.randn(2, 13, 9, 8)
    assert [int(size) for size in mixer.sizes] == [3, 3, 3, 3, 1]
    groups = []
    for i, (group, shift) in enumerate(zip(x.split([3, 3, 3, 3, 1], 1), (-2, -1, 0, 1, 2))):
        across, along = mixer.across[i], mixer.along[i]
        moved = torch.roll(group, shift, 3), torch.roll(group, shift, 2)
        groups.append(across(moved[0]) + along(moved[1]))
    assert torch.allclose(mixer(x), torch.cat(groups, 1), atol=1e-6)
    with pytest.raises(ValueError, match="runs"):
        MixShift(6)


def test_ms_mlp_classifies_other_sizes():
    net = small("ms_mlp_tiny", num_classes=3).eval()
    with torch.no_grad():
        for size in ((64, 64), (96, 160), (71, 53)):
            assert net(torch.randn(1, 3, *size)).isfinite().all()
