"""What the papers of the transformer families promise, beyond equal numbers."""

import pytest
import torch
from reference import timm
from torch import nn
from transformers.models.cvt.configuration_cvt import CvtConfig
from transformers.models.cvt.modeling_cvt import CvtForImageClassification
from zoo import apart, randomise

from opsin import create_model
from opsin.channels.glu import SwiGlu
from opsin.convert import rename, tables
from opsin.families.golden import macs
from opsin.mixers.window_mlp import WindowMlp
from opsin.registry import builder, facts
from opsin.width import narrow, widths


def reduced(name: str, ours: dict, theirs: dict, table: str = "TIMM"):
    """Our network and timm's with one set of random weights, both with other sizes than the variant's."""
    build, variant = builder(name)
    net, other = build(**{**variant, **ours}).double().eval(), timm.create_model(name, **theirs).double().eval()
    randomise(other)
    state, shapes = rename(other.state_dict(), tables(facts(name)["family"])[table]), net.state_dict()
    net.load_state_dict({k: v.reshape(shapes[k].shape) for k, v in state.items()})
    return net, other


def test_cvt_is_the_one_of_the_transformers_package():
    config = CvtConfig(num_labels=7, depth=[1, 2, 3], embed_dim=[16, 32, 48], num_heads=[1, 2, 3])
    theirs = CvtForImageClassification(config).double().eval()
    sizes = dict(depths=(1, 2, 3), dims=(16, 32, 48), heads=(1, 2, 3), num_classes=7)
    ours = create_model("cvt_13", act=nn.GELU, **sizes).double().eval()  # the authors' own code has its quick form
    randomise(theirs)
    ours.load_state_dict(rename(theirs.state_dict(), tables("cvt")["TRANSFORMERS"]))
    x = torch.randn(2, 3, 96, 128).double()
    with torch.no_grad():
        assert apart(ours(x), theirs(x).logits) < 1e-9


# ------------------------------------------------- Swin's relatives -------------------------------------------------


def test_windows_from_other_windows():
    sizes = dict(depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), dim=16)
    name = "swinv2_base_window12to16_192to256"
    ours, theirs = reduced(name, sizes, dict(depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4), embed_dim=16))
    x = torch.randn(1, 3, 256, 256).double()
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9


@pytest.mark.parametrize("shift", [0, 2])
def test_window_mlps_never_mix_windows(shift):
    net = WindowMlp(heads=3, window=4, shift=shift)
    x = torch.randn(1, 12, 16, 6)
    changed = x.clone()
    changed[0, 5, 9] += 1
    with torch.no_grad():
        moved = (net(changed) - net(x))[0].abs().amax(-1) > 0
    rows, columns = (torch.nonzero(moved.any(d)).flatten() for d in (1, 0))
    first = (4, 8) if shift == 0 else (2, 6)
    assert rows.tolist() == list(range(first[0], first[0] + 4))
    assert columns.tolist() == list(range(8, 12) if shift == 0 else range(6, 10))


def test_shifted_window_mlps_are_a_roll_of_a_map_with_a_margin():
    plain, shifted = WindowMlp(2, 4), WindowMlp(2, 4, shift=1)
    shifted.load_state_dict(plain.state_dict())
    x = torch.randn(2, 8, 12, 6)
    wide = torch.zeros(2, 12, 16, 6)
    wide[:, :8, :12] = x
    with torch.no_grad():
        rolled = plain(wide.roll((3, 3), (1, 2))).roll((-3, -3), (1, 2))[:, :8, :12]
        assert apart(shifted(x), rolled) < 1e-6


def test_window_mlps_give_each_head_a_matrix_over_places():
    net, x = WindowMlp(2, 2), torch.randn(1, 2, 2, 6)
    with torch.no_grad():
        w, b = net.spatial.weight.view(2, 4, 4), net.spatial.bias.view(2, 4)
        expected = torch.einsum("hoi,ihc->ohc", w, x.view(4, 2, 3)) + b.T[:, :, None]
        assert apart(net(x).view(4, 2, 3), expected) < 1e-5


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swin_mixer_tiny_c24_patch4_window8_256"])
def test_cost_is_linear_in_pixels(name):
    size = facts(name)["native"]
    with torch.device("meta"):
        net = create_model(name, num_classes=0)
        one, four = (macs(net, torch.empty(1, 3, n * size, n * size)) for n in (1, 2))
    assert 3.95 * one < four <= 4 * one  # the margin of a shifted grid of MLPs grows with the side alone


# ------------------------------------------------------ ConViT ------------------------------------------------------


def test_new_gated_heads_are_convolutions():
    """Each head of a new network looks one offset away, the nine of them filling a square; values pass unchanged."""
    attn = create_model("convit_small", depth=2, img_size=112).backbone.blocks[0].mixer
    rows, columns = 7, 7
    with torch.no_grad():
        attn.gate.fill_(20.0)  # position alone
        weights = attn.weights(torch.randn(1, rows * columns, 432), (rows, columns))[0]
    looked = weights[:, 3 * columns + 3].argmax(-1)  # from the middle
    steps = {(int(i) // columns - 3, int(i) % columns - 3) for i in looked}
    assert steps == {(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    assert torch.equal(attn.v.weight, torch.eye(432))


def test_gates_lie_between_content_and_position():
    net = create_model("convit_tiny", depth=3, img_size=64).eval()
    x, grid = torch.randn(1, 16, 192), (4, 4)
    attn = net.backbone.blocks[0].mixer
    assert all(0 < g < 1 for g in attn.gate.sigmoid().tolist())
    with torch.no_grad():
        mixed = attn.weights(x, grid)
        attn.gate.fill_(-30.0)
        content = attn.weights(x, grid)
        attn.gate.fill_(30.0)
        position = attn.weights(x, grid)
    g = 1 / (1 + torch.e**-1)
    assert apart(mixed, (1 - g) * content + g * position) < 1e-5
    assert torch.allclose(mixed.sum(-1), torch.ones(()))


def test_nonlocality_tells_convolutions_from_global_attention():
    from opsin.families.convit import nonlocality

    net = create_model("convit_tiny", depth=4, img_size=112).eval()
    x = torch.randn(2, 3, 112, 112)
    near = nonlocality(net, x)
    assert near.shape == (3, 4)
    for block in net.backbone.blocks[:3]:
        block.mixer.gate.data.fill_(-30.0)
    far = nonlocality(net, x)  # a new network's content says nothing: the mean distance between pixels
    at = torch.cartesian_prod(torch.arange(7.0), torch.arange(7.0))
    assert torch.allclose(far, torch.cdist(at, at).mean().expand(3, 4), rtol=0.1)
    assert (near < far).all()


# ---------------------------------------------- CrossViT and TNT ----------------------------------------------


def test_fusion_of_branches_costs_linearly():
    from opsin.families.crossvit import Visit

    with torch.device("meta"):
        visit, cls = Visit(64, 96, 4), torch.empty(1, 1, 64)

        class Call(torch.nn.Module):
            def forward(self, others):
                return visit(cls, others)

        one, two, three = (macs(Call(), torch.empty(1, n, 96)) for n in (100, 200, 300))
    assert two - one == three - two


def test_class_tokens_visit_the_other_branch():
    """A change in one branch's patch reaches the other branch's class token, and none of its patches."""
    ours = create_model("crossvit_9_240", img_size=48).eval()
    block = ours.backbone.blocks[0]
    first, second = torch.randn(1, 17, 128), torch.randn(1, 10, 256)
    moved = second.clone()
    moved[:, 4, :100] += 1
    with torch.no_grad():
        (a, b), (c, _) = block(first, second), block(first, moved)
    changed = (a - c).abs().amax(-1)[0] > 1e-7
    assert changed.tolist() == [True] + [False] * 16
    assert b.shape == second.shape


def test_pixels_of_a_patch_stay_in_their_patch():
    """Sixteen pixel tokens a patch; a changed pixel moves its own patch's pixel tokens alone."""
    net = create_model("tnt_s_patch16_224", img_size=64).eval().backbone
    x = torch.randn(1, 3, 64, 64)
    moved = x.clone()
    moved[0, :, 20, 40] += 1  # in the patch of row 1, column 2 of four by four
    with torch.no_grad():
        before, after = (net.pixels(y).flatten(2).mT for y in (x, moved))
    assert before.shape == (16, 16, 24)
    assert (before - after).abs().amax((1, 2)).nonzero().flatten().tolist() == [6]


# ------------------------------------------------------- NesT -------------------------------------------------------


def test_blocks_never_mix_before_aggregation():
    net = create_model("nest_tiny", img_size=64).eval()
    level = net.backbone.stages[0]
    x = torch.randn(1, 96, 16, 16)
    moved = x.clone()
    moved[0, :50, 5, 9] += 1
    with torch.no_grad():
        changed = (level(x) - level(moved)).abs().amax(1)[0] > 1e-7
    rows, columns = changed.nonzero().T.unbind()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 7, 8, 11)


def test_a_decision_is_followed_down_the_tree():
    """A head that reads one quarter of the last map, as positive numbers, leads into that quarter."""
    from opsin.families.nest import corner, gradcat

    class Quarters(torch.nn.Module):
        def forward(self, features):
            top = features.maps[-1].square()
            return torch.stack([top[:, :, :2, 2:].sum((1, 2, 3)), top[:, :, 2:, :2].sum((1, 2, 3))], 1)

    net = create_model("nest_tiny", img_size=64).eval()
    path = gradcat(net, torch.randn(1, 3, 64, 64))
    assert len(path) == 2
    assert all(step in {(0, 0), (0, 1), (1, 0), (1, 1)} for step in path)
    assert 0 <= min(corner(path)) <= max(corner(path)) < 4
    net.head = Quarters()
    assert gradcat(net, torch.randn(1, 3, 64, 64), label=0)[0] == (0, 1)
    assert gradcat(net, torch.randn(1, 3, 64, 64), label=1)[0] == (1, 0)


# ------------------------------------------------------ DINOv2 ------------------------------------------------------


@pytest.mark.parametrize("name", ["vit_giant_patch14_dinov2", "vit_giant_patch14_reg4_dinov2"])
def test_giants_with_gated_mlps(name):
    ours, theirs = reduced(
        name,
        dict(dim=48, depth=2, heads=2, img_size=56),
        dict(embed_dim=48, depth=2, num_heads=2, img_size=56, num_classes=1000),
    )
    x = torch.randn(2, 3, 56, 56).double()
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9


def test_the_multiscale_network_that_widens_late():
    from opsin.families.mvit_v2 import TIMM

    config = timm.models.mvitv2.MultiScaleVitCfg(depths=(1, 2, 1, 1), embed_dim=16, num_heads=1, expand_attn=False)
    theirs = timm.models.mvitv2.MultiScaleVit(config, img_size=64).double().eval()
    build, variant = builder("mvitv2_large")
    ours = build(**{**variant, "depths": (1, 2, 1, 1), "dim": 16, "heads": 1, "img_size": 64}).double().eval()
    randomise(theirs)
    ours.load_state_dict(rename(theirs.state_dict(), TIMM))
    x = torch.randn(2, 3, 64, 64).double()
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9
        expected = theirs.forward_intermediates(x, intermediates_only=True)
        made = ours.forward_intermediates(x)
    assert [m.shape for m in made] == [e.shape for e in expected]
    assert max(apart(m, e) for m, e in zip(made[:3], expected)) < 1e-9


def test_a_small_aimv2():
    sizes = dict(dim=24, depth=2, heads=3, ratio=2.0, img_size=56)
    ours, theirs = reduced(
        "aimv2_large_patch14_224",
        sizes,
        dict(embed_dim=24, depth=2, num_heads=3, mlp_ratio=2.0, img_size=56, num_classes=1000),
    )
    x = torch.randn(2, 3, 56, 56).double()
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9
        keep = {name: list(range(0, width, 2)) for name, width in widths(ours).items()}
        assert narrow(ours, keep)(x).isfinite().all()


def test_gated_mlps_lose_whole_channels():
    net, x, kept = SwiGlu(6, 2.0), torch.randn(3, 6), [0, 2, 3, 7, 11]
    thin = narrow(net, {"hidden": kept})
    with torch.no_grad():
        a, b = net.fc1(x).chunk(2, -1)
        silent = torch.zeros(12)
        silent[kept] = 1
        expected = net.fc2(torch.nn.functional.silu(a) * b * silent)
        assert torch.allclose(thin(x), expected, atol=1e-6)
