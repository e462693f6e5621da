"""VGG: 3x3 convolutions, two or more between poolings. Simonyan & Zisserman, 2014, arXiv:1409.1556

The fully connected layers are convolutions, so that larger images are evaluated densely and averaged, as in the paper.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import relu
from ..layers.init import initialise, kaiming_out
from ..registry import about, family
from ..width import Width

DIMS = (64, 128, 256, 512, 512)
A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)  # the paper's columns: convs a stage


def part(cin: int, cout: int) -> nn.Module:
    """act(conv(x))"""
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(cin, cout, 3, padding=1), act=relu()))


def normed(cin: int, cout: int) -> nn.Module:
    """act(norm(conv(x))); the convolution keeps its bias"""
    conv = nn.Conv2d(cin, cout, 3, padding=1)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(cout), act=relu()))


class Dense(nn.Module):
    """act(fc2(drop(act(fc1(x))))), one vector for every 7x7 window; smaller maps are resampled to one window"""

    def __init__(self, dim: int, hidden: int, cout: int, drop: float = 0.0):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(dim, hidden, 7), nn.Conv2d(hidden, cout, 1)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        if min(h, w) < 7:
            x = F.adaptive_avg_pool2d(x, (max(h, 7), max(w, 7)))
        wide = self.fc1(x) if max(x.shape[-2:]) > 7 else single(self.fc1, x)
        return F.relu(self.fc2(self.drop(F.relu(wide))))


def single(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of a map that it covers whole: a product of matrices, whose gradients cost less."""
    y = F.linear(x.movedim(1, -1).flatten(1), conv.weight.movedim(1, -1).flatten(1), conv.bias)
    return y[:, :, None, None]


@family(
    about(
        title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
        arxiv="1409.1556",
        licence="BSD-3-Clause",
    ),
    vgg11=dict(depths=A),
    vgg13=dict(depths=B),
    vgg16=dict(depths=D),
    vgg19=dict(depths=E),
    vgg11_bn=dict(depths=A, part=normed),
    vgg13_bn=dict(depths=B, part=normed),
    vgg16_bn=dict(depths=D, part=normed),
    vgg19_bn=dict(depths=E, part=normed),
)
def vgg(
    depths: Sequence[int],
    part: Callable[[int, int], nn.Module] = part,
    hidden: int = 4096,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
) -> Network:
    """`hidden` channels in the fully connected layers."""
    dims = [[Width(dim, "dim") for _ in range(depth)] for dim, depth in zip(DIMS, depths)]
    first, out = dims[0][0], dims[-1][-1]
    stages = [Stage(part(*pair) for pair in pairwise(dims[0]))]
    for before, here in pairwise(dims):
        stages.append(Stage((part(*pair) for pair in pairwise([before[-1], *here])), nn.MaxPool2d(2, 2)))
    stages.append(Stage([], nn.MaxPool2d(2, 2)))
    ends = [first, *[stage[-1] for stage in dims], out]
    backbone = Pyramid(part(in_chans, first), stages, ends, [1, 1, 2, 4, 8, 16, 32])
    fc1, fc2 = Width(hidden, "fc1"), Width(hidden, "fc2")
    head = Classifier(fc2, num_classes, before=Dense(out, fc1, fc2, drop_rate), drop=drop_rate)
    net = Network(backbone, head)
    initialise(net, conv=kaiming_out, linear=partial(nn.init.normal_, std=0.01))
    return net


def table(depths: Sequence[int], layers: tuple[str, ...]) -> str:
    """Rules for the published numbering: all convolutions, norms, activations and poolings in one row."""
    rules, at = [], 0
    for s, depth in enumerate(depths):
        for b in range(depth):
            place = "stem" if s == b == 0 else f"stages.{s}.blocks.{b - (s == 0)}"
            rules += [f"features.{at + i} -> backbone.{place}.{layer}" for i, layer in enumerate(layers)]
            at += len(layers) + 1
        at += 1
    return "\n".join(rules) + HEAD


HEAD = """
    pre_logits     -> head.before
    head.fc        -> head.fc
    classifier.0   -> head.before.fc1
    classifier.3   -> head.before.fc2
    classifier.6   -> head.fc
"""
TABLE_A, TABLE_B, TABLE_D, TABLE_E = (table(column, ("conv",)) for column in (A, B, D, E))
TABLE_A_BN, TABLE_B_BN, TABLE_D_BN, TABLE_E_BN = (table(column, ("conv", "norm")) for column in (A, B, D, E))
