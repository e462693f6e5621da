import pytest
import torch
import torch.nn.functional as F
from torch import nn

from opsin.errors import OpsinError
from opsin.evaluate.count import count


class Attention(nn.Module):
    def __init__(self, dim=32, heads=4):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        x = x.flatten(2).mT
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Reader(Attention):
    """Reads a value, which no tensor without numbers has."""

    def forward(self, x):
        return super().forward(x) * (2 if x.sum().item() > 0 else 1)


def small():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def test_a_convolutional_network_by_hand():
    got = count(small(), (16, 20))
    assert got["macs"] == 8 * 10 * 8 * 27 + 6 * 8 * 8 * 9 + 8 * 5
    assert got["params"] == 8 * 27 + 8 + 16 + 8 * 9 + 8 + 45
    assert got["unknown_ops"] == {}


@pytest.mark.parametrize("model", [Attention(), Reader()])
def test_attention_counts_with_and_without_numbers(model):
    n, d = 36, 32
    assert count(model, (32, 6, 6)) == {
        "params": 4 * d * d + 4 * d,
        "macs": n * d * 4 * d + 2 * n * n * d,
        "unknown_ops": {},
    }


def test_operators_without_a_formula_are_listed():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.fft.rfft2(x).abs() + F.grid_sample(x, x.new_zeros(1, 8, 5, 2), align_corners=False).mean()

    assert list(count(Odd(), 8)["unknown_ops"]) == ["aten._fft_r2c.default", "aten.grid_sampler_2d.default"]


def test_the_model_is_left_as_it_was():
    model = small()
    model[1].eval()
    before = model[1].running_mean.clone()
    count(model, 16)
    assert model.training
    assert not model[1].training
    assert model[0].weight.device.type == "cpu"
    assert torch.equal(model[1].running_mean, before)
    assert not torch.is_inference(model[0].weight)


def test_the_size_comes_from_the_model_and_is_checked():
    model = small()
    with pytest.raises(OpsinError, match="give size"):
        count(model)
    model.config = {"preprocessing": {"size": [16, 20]}}
    assert count(model) == count(small(), (3, 16, 20))
    with pytest.raises(OpsinError, match="no input size"):
        count(model, (0, 4))
