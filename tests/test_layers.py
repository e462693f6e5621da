import math

import pytest
import torch
import torch.nn.functional as F

from opsin.channels.mlp import Mlp
from opsin.layers import Conv, DropPath, GlobalAverage, LayerNorm, SameConv2d, Scale, SqueezeExcite, ramp
from opsin.layers.act import GELU
from opsin.layers.position import Positions, RelativeBias, offsets, resampled
from opsin.mixers.attention import Attention, attend
from opsin.mixers.window import WindowAttention, shift_mask
from opsin.width import narrow, widths

# ------------------------------------------------- stochastic depth -------------------------------------------------


def test_dropped_paths_keep_the_expectation():
    drop, x = DropPath(0.25).train(), torch.ones(20000, 2, 3)
    y = drop(x)
    kept = y[:, 0, 0] > 0
    assert torch.equal(y, kept[:, None, None] / 0.75 * x)  # whole samples go or stay
    assert abs(kept.double().mean() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 20000)


def test_paths_are_whole_in_eval_and_without_a_rate():
    x = torch.randn(4, 3)
    assert DropPath(0.5).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


def test_a_ramp_rises_from_zero_to_the_rate():
    assert list(ramp(0.3, 4)) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert list(ramp(0.3, 1)) == [0]


# ------------------------------------------------- convolution -------------------------------------------------


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (9, 12), (1, 2), (13, 6)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_is_tensorflows(size, kernel, stride, dilation):
    """TensorFlow pads max((ceil(n / s) - 1) s + (k - 1) d + 1 - n, 0) in all, half before, the odd pixel behind."""
    conv = SameConv2d(2, 3, kernel, stride, dilation=dilation)
    x = torch.randn(1, 2, *size)
    pads = []
    for n in reversed(size):
        total = max((math.ceil(n / stride) - 1) * stride + (kernel - 1) * dilation + 1 - n, 0)
        pads += [total // 2, total - total // 2]
    y = conv(x)
    assert y.shape[-2:] == tuple(math.ceil(n / stride) for n in size)
    assert torch.allclose(y, F.conv2d(F.pad(x, pads), conv.weight, conv.bias, stride, 0, dilation), atol=1e-5)


def test_conv_is_act_of_norm_of_conv():
    part, x = Conv(3, 4, 5, 2).eval(), torch.randn(1, 3, 9, 9)
    part.norm.running_mean.uniform_()
    assert part(x).shape == (1, 4, 5, 5)
    assert torch.equal(part(x), part.norm(part.conv(x)).relu())
    assert part.conv.bias is None
    assert [name for name, _ in Conv(3, 4, act=None).named_children()] == ["conv", "norm"]


# ---------------------------------------------- norms, gains, pools ----------------------------------------------


def test_layer_norm_over_channels_wherever_they_are():
    x = torch.randn(2, 6, 4, 5)
    last, second = LayerNorm(6), LayerNorm(6, dim=1)
    assert torch.equal(second(x), last(x.movedim(1, -1)).movedim(-1, 1))
    y = second(x)
    assert torch.allclose(y.mean(1), torch.zeros(2, 4, 5), atol=1e-6)
    assert torch.allclose(y.var(1, correction=0), torch.ones(2, 4, 5), atol=1e-3)


def test_scale_and_pool():
    x = torch.randn(2, 3, 4, 5)
    scale = Scale(3, 0.5, axis=1)
    assert torch.equal(scale(x), x * 0.5)
    scale.gamma.data = torch.tensor([0.0, 1.0, 2.0])
    assert torch.equal(scale(x), torch.stack([x[:, 0] * 0, x[:, 1], x[:, 2] * 2], 1))
    assert torch.allclose(GlobalAverage()(x), x.flatten(2).mean(2), atol=1e-6)


def test_squeeze_excite_weighs_channels_by_their_means():
    part, x = SqueezeExcite(4, 2), torch.randn(2, 4, 3, 3)
    hidden = (x.mean((2, 3)) @ part.reduce.weight[:, :, 0, 0].T + part.reduce.bias).relu()
    gate = (hidden @ part.expand.weight[:, :, 0, 0].T + part.expand.bias).sigmoid()
    assert torch.allclose(part(x), x * gate[:, :, None, None], atol=1e-6)


def test_mlp():
    part, x = Mlp(4, 2.5), torch.randn(2, 3, 4)
    assert part.fc1.out_features == 10
    assert torch.equal(part(x), part.fc2(F.gelu(part.fc1(x))))


# ------------------------------------------------- positions -------------------------------------------------


def test_positions_on_their_own_grid_and_others():
    part = Positions(4, (3, 5), prefix=2)
    x = torch.zeros(1, 17, 4)
    assert torch.equal(part(x, (3, 5)), part.table)
    y = part(torch.zeros(1, 2 + 6 * 7, 4), (6, 7))
    assert torch.equal(y[:, :2], part.table[:, :2])


def test_resampling_keeps_constants_and_ramps_and_the_prefix():
    flat = torch.full((1, 1 + 9, 2), 3.0)
    assert torch.allclose(resampled(flat, 1, (3, 3), (5, 8)), torch.full((1, 41, 2), 3.0))
    rows = torch.arange(8.0).repeat_interleave(8)[None, :, None]
    up = resampled(rows, 0, (8, 8), (16, 16)).reshape(16, 16)
    inner = slice(4, 12)  # bicubic is exact on straight lines, but for the clamped border
    assert torch.allclose(up[inner, inner], ((torch.arange(16.0) - 0.5) / 2)[inner, None].expand(8, 8), atol=1e-5)
    assert torch.allclose(up, up[:, :1].expand(16, 16), atol=1e-5)


def test_offsets_depend_on_the_step_between_pixels_alone():
    index = offsets(3)
    assert index.shape == (9, 9)
    assert sorted(set(index.flatten().tolist())) == list(range(25))
    place = [(i // 3, i % 3) for i in range(9)]
    rows: dict = {}
    for a in range(9):
        for b in range(9):
            rows.setdefault((place[a][0] - place[b][0], place[a][1] - place[b][1]), set()).add(int(index[a, b]))
    assert all(len(found) == 1 for found in rows.values())
    bias = RelativeBias(2, 3)
    assert torch.equal(bias()[1], bias.table[:, 1][index])


# ------------------------------------------------- attention -------------------------------------------------


def test_attention_is_its_formula():
    part, x, bias = Attention(8, 2).double(), torch.randn(3, 5, 8).double(), torch.randn(2, 5, 5).double()
    q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in part.qkv(x).chunk(3, -1))
    y = (q @ k.mT / math.sqrt(4) + bias).softmax(-1) @ v
    assert torch.allclose(part(x, bias), part.proj(y.transpose(1, 2).flatten(2)))


def test_attention_loses_whole_heads_and_channels_of_all_heads():
    part, x = Attention(8, 2), torch.randn(3, 5, 8)
    assert set(widths(part)) == {"heads"}
    thin = narrow(part, {"heads": [1]})
    assert torch.equal(thin.qkv.weight, part.qkv.weight[[4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]])
    assert thin(x).shape == x.shape


@pytest.mark.parametrize(("size", "shift"), [((4, 8), 0), ((8, 8), 2), ((6, 7), 2), ((3, 4), 2)])
def test_windows_attend_inside_themselves_only(size, shift):
    """A pixel's answer depends on exactly those of its window, in the shifted grid, that no roll brought there."""
    part, (h, w) = WindowAttention(4, 2, window=4, shift=shift).double().eval(), size
    x = torch.randn(1, h, w, 4, dtype=torch.double, requires_grad=True)
    s = 0 if min(size) <= 4 else shift
    for y, z in ((0, 0), (h - 1, w - 1), (h // 2, w // 2)):
        (grad,) = torch.autograd.grad(part(x)[0, y, z].sum(), x)
        seen = {(int(i), int(j)) for i, j in (grad[0].abs().sum(-1) > 1e-12).nonzero()}
        tall, wide = -(h // -4) * 4, -(w // -4) * 4

        def cell(i, j, tall=tall, wide=wide):
            i, j = (i - s) % tall, (j - s) % wide
            return i // 4, j // 4, i >= tall - s if s else 0, j >= wide - s if s else 0

        assert seen == {(i, j) for i in range(h) for j in range(w) if cell(i, j) == cell(y, z)}


def test_the_mask_parts_what_the_roll_brought_together():
    mask = shift_mask(8, 8, 4, 2, torch.device("cpu"))
    assert mask.shape == (4, 1, 16, 16)
    assert mask[0].abs().sum() == 0
    assert set(mask.unique().tolist()) == {-100.0, 0.0}
    assert torch.equal(mask, mask.mT)


def test_gradients_flow_into_every_part():
    for part, x in ((WindowAttention(4, 2, 4, 2), torch.randn(1, 8, 8, 4)), (Attention(4, 2), torch.randn(1, 3, 4))):
        part(x).square().sum().backward()
        assert all(p.grad.abs().sum() > 0 for p in part.parameters())


# ------------------------------------- torch's own, where it is slow, otherwise -------------------------------------


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_gelu_is_torchs_in_every_memory_format(form):
    x = torch.randn(2, 6, 5, 4).to(memory_format=form).requires_grad_()
    ours, theirs = (torch.autograd.grad(act(x).square().sum(), x)[0] for act in (GELU(), torch.nn.GELU()))
    assert GELU()(x).is_contiguous(memory_format=form)
    torch.testing.assert_close(GELU()(x), F.gelu(x))
    torch.testing.assert_close(ours, theirs)
    assert GELU("tanh")(x).allclose(F.gelu(x, approximate="tanh"))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2), (2, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("wide", [8, 5])
@pytest.mark.parametrize("bias", ["none", "fixed", "learned"])
def test_attention_is_its_formula_for_all_shapes(shape, wide, bias):
    q, k, v = torch.randn(*shape, 7, 8), torch.randn(*shape, 9, 8), torch.randn(*shape, 9, wide)
    more = None if bias == "none" else torch.randn(*shape, 7, 9, requires_grad=bias == "learned")
    expected = (q @ k.mT / 3 + (0 if more is None else more)).softmax(-1) @ v
    torch.testing.assert_close(attend(q, k, v, more, scale=1 / 3), expected)
