"""Every form of the scans against their definitions, one place at a time; the quick gradient against torch's."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from zoo import apart

from opsin.evaluate.count import count
from opsin.kernels import plain, scan_torch
from opsin.kernels import selective_scan as forms
from opsin.kernels.depthwise import quick
from opsin.kernels.doubling import doubled
from opsin.kernels.selective_scan import backend, implementation, scan, selective_scan
from opsin.kernels.ssd import ssd
from opsin.mixers.mamba import StateSpace

SHAPES = [(2, 1, 5, 3), (3, 300, 20, 1), (2, 130, 33, 16), (1, 64, 200, 2)]  # S, L, W, N


def drawn(s: int, length: int, w: int, n: int, steps: float = 0.2, dtype=torch.float64) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(s * length)
    u, step, a, b, c, start = (
        torch.randn(shape, generator=draw, dtype=torch.float64)
        for shape in ((s, length, w), (s, length, w), (s, n, w), (s, length, n), (s, length, n), (s, n, w))
    )
    return [t.to(dtype) for t in (u, steps * step.abs(), -a.exp(), b, c, start)]


def gradients(form, given: list[torch.Tensor]) -> list[torch.Tensor]:
    """The two outputs, and the gradients of a sum that weighs both."""
    leaves = [t.clone().requires_grad_() for t in given]
    y, last = form(*leaves)
    draw = torch.Generator().manual_seed(7)
    weigh = [torch.randn(t.shape, generator=draw, dtype=torch.float64).to(t.dtype) for t in (y, last)]
    total = (y * weigh[0]).sum() + (last * weigh[1]).sum()
    return [y.detach(), last.detach(), *torch.autograd.grad(total, leaves)]


def spread(got: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    return max(float((a.double() - b).abs().max() / b.std().clamp(min=1e-3)) for a, b in zip(got, wanted))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [0.2, 12.0])
def test_chunks_equal_the_definition(shape, steps, monkeypatch):
    given = drawn(*shape, steps)
    wanted = gradients(plain.scan, given)
    assert spread(gradients(scan, given), wanted) < 1e-10
    monkeypatch.setattr(scan_torch, "TOGETHER", 64)  # one chunk at a time
    assert spread(gradients(scan, given), wanted) < 1e-10
    monkeypatch.setattr(forms, "MANY", 1)  # one place at a time
    assert implementation(given[2]).__name__.endswith("scan_steps")
    assert spread(gradients(scan, given), wanted) < 1e-10


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [0.2, 12.0])
def test_the_compiled_form_equals_the_definition(shape, steps):
    pytest.importorskip("numba")
    assert backend() == "numba" == implementation(torch.zeros(1)).__name__.rpartition("_")[2]
    wanted = gradients(plain.scan, drawn(*shape, steps))
    assert spread(gradients(scan, drawn(*shape, steps, torch.float32)), wanted) < 1e-3


def test_threads_change_nothing():
    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made.append(gradients(scan, drawn(1, 70, 200, 3, dtype=torch.float32)))
    finally:
        torch.set_num_threads(before)
    assert spread(made[0], made[1]) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_doubling_equals_the_definition(shape):
    given = drawn(*shape, 2.0)
    assert spread(list(doubled(*given)), list(plain.scan(*given))) < 1e-10


@pytest.mark.parametrize("length", [1, 13, 64, 200])
def test_matrices_equal_mamba_2s_definition(length):
    draw = torch.Generator().manual_seed(length)
    x, dt, a, b, c, start = (
        torch.randn(shape, generator=draw, dtype=torch.float64)
        for shape in ((2, length, 4, 3), (2, length, 4), (4,), (2, length, 4, 5), (2, length, 4, 5), (2, 4, 3, 5))
    )
    given = [x, dt.exp(), -a.exp(), b, c, start]
    wanted = gradients(plain.dual, given)
    assert spread(gradients(lambda *t: ssd(*t[:5], initial_states=t[5]), given), wanted) < 1e-10


def test_a_sequence_in_two_parts_is_the_whole():
    space, x = StateSpace(24, 4, 2).double(), torch.randn(2, 90, 24, dtype=torch.float64)
    whole, last = space(x)
    first, state = space(x[:, :37])
    second, end = space(x[:, 37:], state)
    assert apart(torch.cat([first, second], 1), whole) < 1e-12
    assert apart(end, last) < 1e-12


def test_pruned_tokens_only_let_states_decay():
    """Kept tokens answer as in the whole sequence whose other tokens add nothing."""
    space, x = StateSpace(24, 4, 2).double(), torch.randn(2, 90, 24, dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    kept = torch.stack([torch.randperm(90, generator=draw)[:40].sort().values for _ in range(2)])
    step, a, b, c = space.parts(x)
    silent = torch.zeros_like(x).scatter(1, kept[..., None].expand(-1, -1, 24), 1.0) * x
    y, last = scan(silent, step, a.mT.expand(2, -1, -1), b, c)
    wanted = (y + space.skip * x).gather(1, kept[..., None].expand(-1, -1, 24))
    got, end = space.among(x, kept)
    assert apart(got, wanted) < 1e-12
    assert apart(end, last) < 1e-12
    everything = torch.arange(90).expand(2, -1)
    assert apart(space.among(x, everything)[0], space(x)[0]) < 1e-12


def test_sixteen_bits_in_and_out_but_not_between():
    u, step, a, b, c, _ = drawn(2, 200, 16, 4)
    given = [u.mT, step.mT, a[0].mT, b.mT, c.mT]
    wanted, state = selective_scan(*given)
    half = [t.bfloat16() for t in given]
    y, last = selective_scan(*half)
    exact, _ = selective_scan(*[t.double() for t in half])
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    assert apart(y.double(), exact) < 0.02  # one rounding of the answer
    assert apart(y.double(), wanted) < 0.5
    assert state.dtype == torch.float64


def test_groups_that_do_not_divide_are_named():
    x = torch.zeros(1, 6, 5)
    with pytest.raises(ValueError, match="4 groups do not divide 6 channels"):
        selective_scan(x, x, torch.zeros(6, 2), torch.zeros(1, 4, 2, 5), torch.zeros(1, 2, 5))


def test_backward_keeps_states_of_few_places():
    """What autograd holds between the passes grows with the input, not with the number of states."""
    kept = []

    def keep(t):
        kept.append(t.numel())
        return t

    for states in (1, 16):
        given = [t.requires_grad_() for t in drawn(1, 640, 64, states, dtype=torch.float32)]
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            scan(*given)
    assert sum(kept[kept.index(0, 1) :]) < 1.7 * sum(kept[: kept.index(0, 1)])


def test_cost_is_the_fields_rule():
    class Alone(torch.nn.Module):
        def forward(self, x):
            x = x[:, 0]
            return scan(x, x, x[:, :4], x[..., :4], x[..., :4])[0]

    counted = count(Alone(), (1, 30, 50))
    assert counted["macs"] == 9 * 30 * 50 * 4
    assert counted["unknown_ops"] == {}


WINDOWS = [  # window, stride, padding, picture
    (5, 1, 2, (9, 11)),
    (5, 2, 2, (9, 11)),
    (7, 2, 3, (14, 13)),
    (4, 1, 1, (8, 9)),
    ((1, 11), 1, (0, 5), (8, 8)),
    (31, 1, 15, (12, 12)),
    (5, 3, 4, (7, 20)),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "picture"), WINDOWS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_quick_gradient_of_wide_depthwise_windows_is_the_gradient(kernel, stride, padding, picture, layout):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, kernel, stride, padding, groups=6)
    x = torch.randn(2, 6, *picture).to(memory_format=layout).requires_grad_()
    found = []
    for mode in (nullcontext(), quick()):
        with mode:
            y = conv(x)
        found.append([y, *torch.autograd.grad(y.square().sum(), (x, conv.weight, conv.bias))])
    assert found[1][0].grad_fn.name().startswith("Depthwise")
    assert not found[0][0].grad_fn.name().startswith("Depthwise")
    for got, wanted in zip(found[1], found[0]):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("conv", "x"),
    [
        (nn.Conv2d(6, 6, 3, padding=1, groups=6), torch.randn(1, 6, 8, 8)),
        (nn.Conv2d(6, 12, 5, padding=2, groups=6), torch.randn(1, 6, 8, 8)),
        (nn.Conv2d(6, 6, 5, padding=4, dilation=2, groups=6), torch.randn(1, 6, 8, 8)),
        (nn.Conv2d(6, 6, 5, padding="same", groups=6), torch.randn(1, 6, 8, 8)),
        (nn.Conv2d(6, 6, 5, padding=2, groups=6).double(), torch.randn(1, 6, 8, 8).double()),
        (nn.Conv2d(6, 6, 5, padding=2, groups=6).requires_grad_(False), torch.randn(1, 6, 8, 8)),
    ],
)
def test_other_convolutions_stay_as_they_are(conv, x):
    with quick():
        y = conv(x)
    assert y.grad_fn is None or not y.grad_fn.name().startswith("Depthwise")
    assert torch.equal(y, conv(x))
