"""What the papers of the transformer families promise, beyond equal numbers."""

import pytest
import torch
from reference import timm
from zoo import apart, randomise

from opsin import create_model
from opsin.convert import rename, tables
from opsin.families.golden import macs
from opsin.mixers.window_mlp import WindowMlp
from opsin.registry import builder, facts


def reduced(name: str, ours: dict, theirs: dict, table: str = "TIMM"):
    """Our network and timm's with one set of random weights, both with other sizes than the variant's."""
    build, variant = builder(name)
    net, other = build(**{**variant, **ours}).double().eval(), timm.create_model(name, **theirs).double().eval()
    randomise(other)
    state, shapes = rename(other.state_dict(), tables(facts(name)["family"])[table]), net.state_dict()
    net.load_state_dict({k: v.reshape(shapes[k].shape) for k, v in state.items()})
    return net, other


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
