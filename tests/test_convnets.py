"""What the parts of the convolutional families promise."""

import pytest
import torch
import torch.nn.functional as F
from reference import timm
from torch import nn
from zoo import apart, randomise, small

from opsin import create_model
from opsin.blocks.inverted import Inverted
from opsin.families.inception_resnet import Residual
from opsin.families.nasnet import Cell, Squeeze
from opsin.families.resnet_rs import CURVE, scaled
from opsin.heads.dla_up import DlaUp, Upsample
from opsin.layers import BlurPool, DropLayer, DropPath, NeighbourGate, ScheduledDropPath, advance
from opsin.layers.gate import neighbours
from opsin.mixers.non_local import Concatenation, DotProduct, Embedded, Gaussian, NonLocal
from opsin.registry import UnsupportedArgument, facts
from opsin.width import Width, narrow, widths

# ---------------------------------------- gates and poolings ----------------------------------------


@pytest.mark.parametrize(("channels", "kernel"), [(16, 3), (64, 3), (256, 5), (512, 5), (1024, 5), (2048, 7)])
def test_the_neighbour_gate_is_ecas(channels, kernel):
    ours, theirs = NeighbourGate(channels).double(), timm.layers.EcaModule(channels).double()
    ours.conv.load_state_dict(theirs.conv.state_dict())
    x = torch.randn(2, channels, 5, 4).double()
    assert neighbours(channels) == kernel == ours.conv.kernel_size[0]
    assert apart(ours(x), theirs(x)) < 1e-12


def test_blur_pool_is_timms():
    x = torch.randn(2, 6, 9, 8).double()
    theirs = timm.layers.BlurPool2d(6).double()
    assert apart(BlurPool().double()(x), theirs(x)) < 1e-12


# ---------------------------------------- stochastic depth ----------------------------------------


@pytest.mark.parametrize("kind", [DropPath, DropLayer])
def test_many_training_passes_average_to_the_eval_output(kind):
    torch.manual_seed(0)
    drop, x = kind(0.4), torch.randn(8, 5)
    mean = torch.stack([drop(x) for _ in range(4000)]).mean(0)
    assert (mean - drop.eval()(x)).abs().max() < 0.1 * x.abs().max()


def test_a_layer_is_dropped_for_the_whole_batch_a_path_for_a_sample():
    torch.manual_seed(0)
    x = torch.ones(64, 3)
    layers = [DropLayer(0.5)(x) for _ in range(50)]
    assert {float(y.min()) for y in layers} == {0.0, 2.0}
    assert all((y == y[0, 0]).all() for y in layers)
    assert set(DropPath(0.5)(x)[:, 0].tolist()) == {0.0, 2.0}


def test_the_scheduled_rate_rises_with_training():
    torch.manual_seed(0)
    net = small("nasnetamobile", drop_path_rate=0.5)
    drops = [m for m in net.modules() if isinstance(m, ScheduledDropPath)]
    x, zeroed = torch.ones(20000, 1), []
    for progress in (0.0, 0.5, 1.0):
        advance(net, progress)
        assert {m.progress for m in drops} == {progress}
        zeroed.append(float((drops[-1](x) == 0).float().mean()))
    assert zeroed == pytest.approx([0.0, 0.25, 0.5], abs=0.02)


# ---------------------------------------- non-local blocks ----------------------------------------

FORMS = (Gaussian, Embedded, DotProduct, Concatenation)


@pytest.mark.parametrize("affinity", FORMS)
@pytest.mark.parametrize("places", [(6, 4), (3, 4, 6)])
def test_a_non_local_block_starts_as_the_identity_and_knows_no_order(affinity, places):
    torch.manual_seed(0)
    block, x = NonLocal(8, affinity=affinity).double(), torch.randn(2, 8, *places).double()
    assert torch.equal(block(x), x)
    assert torch.equal(block.eval()(x), x)
    randomise(block)
    order = torch.randperm(x[0, 0].numel())
    mixed = x.flatten(2)[:, :, order].reshape(x.shape)
    assert apart(block(mixed).flatten(2), block(x).flatten(2)[:, :, order]) < 1e-9
    assert apart(block(x), x) > 1e-3


def test_embedded_is_attention_with_one_head():
    block, x = NonLocal(8, norm=nn.Identity), torch.randn(2, 8, 5, 4)
    randomise(block)
    flat, inner = x.flatten(2), block.affinity
    seen = F.scaled_dot_product_attention(inner.query(flat).mT, inner.key(flat).mT, block.value(flat).mT)
    assert apart(block(x), x + block.proj_out(seen.mT).reshape(x.shape)) < 1e-5


# ---------------------------------------- what builders are told ----------------------------------------


def test_resnet_rs_is_scaled_along_the_papers_curve():
    assert [scaled(step) for step in (0, 2, 10)] == [(50, 160), (101, 192), (420, 320)]
    assert list(CURVE) == sorted(CURVE)
    with pytest.raises(UnsupportedArgument, match="steps 0 to 10: there is no step 11"):
        scaled(11)


@pytest.mark.parametrize("scale", [0.1, 0.2, 0.3])
def test_scaled_residuals_train_where_they_are_deep(scale):
    torch.manual_seed(0)
    dim = Width(16, "dim")
    net = nn.Sequential(*[Residual(dim, [[(8, 1)], [(8, 1), (8, 3)]], scale) for _ in range(20)])
    x, y = torch.randn(8, 16, 6, 6), torch.randn(8, 16, 6, 6).relu()
    optimizer, losses = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9), []
    for _ in range(15):
        losses.append(F.mse_loss(net(x), y))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(loss.isfinite() for loss in losses)


def test_a_cell_of_any_genotype():
    genotype = ([("sep3", 0, "max", 1), ("skip", 2, "sep5", 1)], (2, 3))
    dim = Width(8, "dim")
    cell = Cell(genotype, Squeeze(6, dim), Squeeze(10, dim), dim)
    made = cell(torch.randn(2, 6, 8, 8), torch.randn(2, 10, 8, 8))
    assert made.shape == (2, cell.width, 8, 8) == (2, 16, 8, 8)


# Billions of multiplications and additions that the paper gives for the steps from ResNet-50, and in one resolution.
STEPS = {
    "convnext_step1_ratio": 4.53,
    "convnext_step2_patchify": 4.42,
    "convnext_step3_depthwise": 2.35,
    "convnext_step4_width": 5.27,
    "convnext_step5_inverted": 4.64,
    "convnext_step6_moved_up": 4.07,
    "convnext_step7_kernel7": 4.15,
    "convnext_step8_gelu": 4.15,
    "convnext_step9_one_act": 4.15,
    "convnext_step10_one_norm": 4.15,
    "convnext_isotropic_small": 4.3,
    "convnext_isotropic_base": 16.9,
    "convnext_isotropic_large": 59.7,
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_to_convnext_cost_what_the_paper_says(name):
    assert facts(name)["macs"] / 1e9 == pytest.approx(STEPS[name], abs=0.05 if "iso" in name else 0.006)


def test_linear_bottlenecks_are_linear():
    """What MobileNetV2's blocks hand on was a norm's last: no activation cuts it."""
    blocks = [m for m in create_model("mobilenetv2_035", num_classes=0).modules() if isinstance(m, Inverted)]
    assert len(blocks) == 17
    for block in blocks:
        assert [type(m) for m in block.project.children()] == [nn.Conv2d, nn.BatchNorm2d]
        assert [type(m) for m in block.dwconv.children()] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU6]


# ---------------------------------------- DLA's decoder ----------------------------------------


class Decoded(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = small("dla34").backbone
        self.decoder = DlaUp(self.backbone.widths[-4:], self.backbone.strides[-4:])

    def forward(self, x):
        return self.decoder(self.backbone(x, range(-4, 0)).maps)


def test_dlas_decoder_goes_back_to_stride_four_at_any_width():
    net, x = Decoded().eval(), torch.randn(1, 3, 64, 96)
    thin = narrow(net, {name: max(1, width // 2) for name, width in widths(net).items()})
    with torch.no_grad():
        assert net(x).shape == (1, net.decoder.width, 16, 24) == (1, 64, 16, 24)
        assert thin(x).shape == (1, thin.decoder.width, 16, 24) == (1, 32, 16, 24)


def test_a_new_upsampling_is_bilinear():
    x = torch.randn(1, 2, 4, 5)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear")
    assert apart(Upsample(2, 2)(x)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1]) < 1e-6


def test_a_decoder_wants_maps_of_doubling_strides():
    with pytest.raises(ValueError, match="twice the stride"):
        DlaUp([8, 16], [4, 16])
