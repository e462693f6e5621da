"""What the papers of the state-space networks claim, and that their exported files keep it."""

import numpy as np
import pytest
import torch
from torch import nn
from zoo import apart, image, randomise, small

import opsin
from opsin.deploy.export import converted
from opsin.families.change_decoders import interleaved
from opsin.families.change_mamba import mamba_bcd, mamba_bda, mamba_scd
from opsin.families.lamamba_diff import lamamba_diff
from opsin.families.lmuformer import so_far
from opsin.families.mhs_vm import mhs_vm
from opsin.layers import routes, scan_order
from opsin.layers.spike import LeakyFire
from opsin.mixers.atrous_scan import ES2D
from opsin.mixers.group_scan import GroupScan
from opsin.mixers.legendre import LegendreCell, remembered
from opsin.mixers.mamba import Mamba
from opsin.mixers.multi_scale_scan import MultiScaleScan
from opsin.mixers.wavelet_scan import analysed, synthesised
from opsin.registry import UnsupportedArgument
from opsin.width import Groups, Width

SIZES = [(6, 10), (10, 4), (8, 8), (2, 6)]
EVERYWHERE = [
    scan_order.cross,
    scan_order.snake,
    scan_order.both_ways,
    routes.snakes,
    routes.diagonals,
    routes.spirals,
    routes.lines,
]


@pytest.mark.parametrize("order", EVERYWHERE, ids=lambda order: order.__name__)
@pytest.mark.parametrize("size", SIZES)
def test_every_route_visits_every_place_once_and_returns(order, size):
    plan = order(*size)
    assert plan is order(*size)  # computed once
    assert (np.sort(plan.there, axis=1) == np.arange(size[0] * size[1])).all()
    x = torch.randn(2, size[0] * size[1], 3)
    ways = scan_order.scattered(x, plan)
    assert torch.equal(scan_order.returned(ways, plan), x[:, None].expand_as(ways))


def test_snakes_move_to_neighbours_and_know_how():
    rows, columns = 5, 4
    there, led = scan_order.snake(rows, columns).there, scan_order.moves(rows, columns)
    moves = {scan_order.RIGHT: (0, 1), scan_order.LEFT: (0, -1), scan_order.UP: (-1, 0), scan_order.DOWN: (1, 0)}
    for route, names in zip(there, led):
        places = [divmod(int(place), columns) for place in route]
        assert names[0] == scan_order.START
        for (y0, x0), (y1, x1), name in zip(places, places[1:], names[1:]):
            assert moves[int(name)] == (y1 - y0, x1 - x0)


def test_atrous_routes_share_the_places_out():
    plan = scan_order.atrous(6, 8)
    assert sorted(plan.there.flatten()) == list(range(48))
    x = torch.randn(1, 48, 2)
    assert torch.equal(scan_order.gathered(scan_order.scattered(x, plan), plan), x)
    scan = ES2D(8)
    randomise(scan)
    assert scan(torch.randn(2, 5, 7, 8)).shape == (2, 5, 7, 8)


def test_permutations_have_the_right_gradients():
    for plan in (scan_order.cross(4, 3), scan_order.atrous(4, 6)):
        x = torch.randn(1, plan.back.shape[1], 2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t, p=plan: scan_order.gathered(scan_order.scattered(t, p).sin(), p), x)


def reached(net: nn.Module, group: int, at: tuple[int, int], size: int = 7) -> torch.Tensor:
    """The places whose answers one group's input at a place changes."""
    x = torch.randn(1, size, size, 4, dtype=torch.float64)
    other = x.clone()
    other[0, at[0], at[1], 0] += 1.0
    scan = net.scans[group].double()
    with torch.no_grad():
        return (scan.scan(x) - scan.scan(other)).abs().amax((0, 3)) > 1e-12


def test_each_group_is_scanned_in_one_direction():
    net = GroupScan(Groups(4, Width(4)))
    randomise(net)
    places = torch.arange(49).reshape(7, 7)
    orders = [places, places.T, -places, -places.T]
    for group, order in enumerate(orders):
        assert torch.equal(reached(net, group, (2, 3)), order >= order[2, 3])


def test_three_of_four_scans_run_at_half_the_sides():
    scan, seen = MultiScaleScan(16), []
    scan.spaces.register_forward_hook(lambda m, given, out: seen.append(out.shape[2]))
    scan(torch.randn(1, 12, 16, 16))
    assert sorted(seen) == [3 * 6 * 8, 12 * 16]
    assert sum(seen) < 4 * 12 * 16 / 2


def test_wavelets_invert_exactly():
    x = torch.randn(2, 5, 6, 8, dtype=torch.float64)
    bands = analysed(x)
    assert bands.shape == (2, 5, 4, 3, 4)
    assert apart(synthesised(bands), x) < 1e-12
    assert abs(float(bands.square().sum() - x.square().sum())) < 1e-9


def test_parts_of_mobile_mamba_sum_to_the_channels():
    net = opsin.create_model("mobilemamba_t2")
    for stage, dim in zip(net.backbone.stages, (144, 272, 368)):
        assert all(sum(block.mixer.parts) == dim for block in stage.blocks)


@pytest.mark.parametrize(("name", "size"), [("vim_tiny_patch16_224", (48, 80)), ("plainmamba_l1", (40, 56))])
def test_other_sizes_than_the_trained_one(name, size):
    net = small(name).eval()
    with torch.no_grad():
        assert net(torch.randn(1, 3, *size)).isfinite().all()


def test_vims_class_token_stands_in_the_middle():
    net = small("vim_tiny_patch16_224").eval()
    seen = []
    net.backbone.blocks[0].register_forward_hook(lambda m, given, out: seen.append(given[0]))
    for value in (0.0, 1.0):
        net.backbone.prefix.cls.data.fill_(value)
        with torch.no_grad():
            made = net.backbone(torch.zeros(1, 3, 64, 96), (-1,))
    moved = (seen[0] - seen[1]).abs().amax((0, 2)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [12]
    assert made.prefix.shape[1] == 1


def test_what_autograd_keeps_for_vim_grows_with_the_tokens():
    kept = []
    for size in (128, 256):
        net, total = small("vim_tiny_patch16_224", depth=1), 0

        def keep(t):
            nonlocal total
            total += t.numel()
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            net(image("vim_tiny_patch16_224", 1, size=size))
        weights = sum(p.numel() for p in net.parameters())
        kept.append(total - weights)
    assert kept[1] < 4.5 * kept[0]


def test_one_token_at_a_time_is_the_whole_sequence():
    mixer = Mamba(24, states=4).double()
    x = torch.randn(2, 31, 24, dtype=torch.float64)
    known, made = mixer.start(2), []
    with torch.no_grad():
        for token in x.unbind(1):
            y, *known = mixer.step(token, *known)
            made.append(y)
        assert apart(torch.stack(made, 1), mixer(x)) < 1e-10


RECORD = {"size": [64, 64], "mean": [0.5] * 3, "std": [0.25] * 3, "channels": 3}


@pytest.mark.parametrize("name", ["vmamba_tiny_s1l8", "vim_tiny_patch16_224"])
def test_exported_scans_agree_in_onnx_runtime(name):
    onnxruntime = pytest.importorskip("onnxruntime")
    depth = {"depth": 1} if name.startswith("vim") else {"depths": (1, 1, 1, 1), "dims": (16, 32, 48, 64)}
    net = small(name, num_classes=5, **depth).eval()
    proto = converted(net, RECORD)
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: pixels})
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.no_grad():
        assert apart(torch.from_numpy(got), net(x)) < 1e-4


def test_change_networks_answer_for_pairs():
    sizes = dict(dims=(8, 12, 16, 20), depths=(1, 1, 1, 1))
    pre, post = torch.randn(2, 1, 3, 64, 96)
    with torch.no_grad():
        net = mamba_bcd(**sizes).eval()
        assert net(pre, post).shape == (1, 2, 64, 96)
        assert torch.equal(net(pre), net(pre, pre))
        assert not torch.equal(net(pre), net(pre, post))
        made = mamba_scd(**sizes, num_classes=4).eval()(pre, post)
        assert [m.shape[1] for m in made] == [2, 4, 4]
        made = mamba_bda(**sizes).eval()(pre, post)
        assert [m.shape[1] for m in made] == [2, 5]
    mixed = interleaved(pre, post)
    assert torch.equal(mixed[..., ::2], pre)
    assert torch.equal(mixed[..., 1::2], post)


def test_heads_of_mhs_vm_take_fewer_parameters_than_vm_unet():
    with torch.device("meta"):
        net = mhs_vm()
    assert sum(p.numel() for p in net.parameters()) == 17_257_129 < 27.4e6


def test_diffusion_networks_have_the_authors_parameters():
    counted = [opsin.facts(name)["params"] for name in ("dis_s_2", "dis_b_4", "lamamba_diff_xl")]
    assert counted == [29_132_752, 121_126_784, 652_445_048]


@pytest.mark.parametrize("name", ["dis_s_8", "lamamba_diff_xl"])
def test_diffusion_networks_are_told_a_step_and_a_class(name):
    net, x = small(name, num_classes=3).eval(), image(name, 1)
    step, label = torch.tensor([7.0]), torch.tensor([2])
    with torch.no_grad():
        plain = net(x)
        assert plain.shape == (1, 8, *x.shape[2:])
        assert torch.equal(net(x, torch.zeros(1), torch.tensor([3])), plain)  # no step, no class
        assert apart(net(x, step), plain) > 1e-3
        assert apart(net(x, step, label), net(x, step)) > 1e-3
    with pytest.raises(UnsupportedArgument, match="predicts noise has no classifier"):
        net.reset_classifier(5)


def test_a_dis_without_classes_takes_no_labels():
    with pytest.raises(ValueError, match="takes no labels"):
        small("dis_s_8", num_classes=0)(torch.randn(1, 4, 32, 32), torch.zeros(1), torch.zeros(1, dtype=torch.long))


def test_legendre_memories_are_the_same_in_parallel_and_step_by_step():
    cell, x = LegendreCell(5, 8, 6, theta=13).double(), torch.randn(2, 40, 5, dtype=torch.float64)
    m, made = torch.zeros(2, 6, dtype=torch.float64), []
    with torch.no_grad():
        for token in x.unbind(1):
            h, m = cell.step(token, m)
            made.append(h)
        assert apart(torch.stack(made, 1), cell(x)) < 1e-10


def test_legendre_memories_keep_the_recent_past():
    size, theta = 12, 64
    t = torch.arange(200, dtype=torch.float64)
    wave = lambda at: np.sin(2 * np.pi * np.asarray(at) / 60)
    memory = remembered(torch.from_numpy(wave(t))[None], size, theta)[0, -1].numpy()
    s = np.linspace(0.05, 0.95, 19)
    kept = np.polynomial.legendre.legval(2 * s - 1, memory)
    assert np.abs(kept - wave(200 - 0.5 - s * theta)).max() < 1e-2


def test_spiking_lmuformers_speak_in_zeros_and_ones():
    counted = [opsin.facts(name)["params"] for name in ("lmuformer", "spiking_lmuformer", "spiking_attention")]
    assert counted == [1_621_796, 1_689_894, 1_689_379]
    net, seen = opsin.create_model("spiking_lmuformer", dim=32, in_chans=16, num_classes=5).eval(), []
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm1d):
            m.weight.data.fill_(4.0)
        if isinstance(m, LeakyFire):
            m.register_forward_hook(lambda m, given, out: seen.append(out.unique().tolist()))
    with torch.no_grad():
        x = torch.randn(2, 16, 1, 24)
        y = net(x)
        assert float((so_far(net, x)[-1] - y).abs().max()) < 1e-5
    assert y.shape == (2, 5)
    assert {value for values in seen for value in values} == {0.0, 1.0}


def test_the_cost_of_lamamba_grows_with_the_tokens():
    from torch.utils.flop_counter import FlopCounterMode

    counted = []
    for side in (16, 32):
        sizes = dict(depths=(1, 1, 1, 1), heads=(2, 2, 2, 2), middle=1, window=4)
        net = lamamba_diff(16, **sizes, img_size=side, in_chans=4).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.randn(1, 4, side, side))
        counted.append(counter.get_total_flops())
    assert counted[1] / counted[0] < 4.01
