"""AsCAN: convolutions early and attention late, asymmetrically. Kag et al., 2024, arXiv:2411.04967

No code was published. The network follows the paper's description: stages written as strings of C (an expanding 3x3
convolution with squeeze and excitation) and T (attention with relative positions, and a pointwise pair), of which the
share of T never falls. Widths, strides inside blocks and positions are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from ..blocks import Classifier, Network, PreNorm, Pyramid, Stage
from ..blocks.inverted import Fused
from ..blocks.layouts import Last
from ..layers import AverageDown, Conv, LayerNorm, SqueezeExcite, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..mixers.distance import DistanceAttention
from ..registry import UnsupportedArgument, about, family
from ..width import Width, each, same

Gelu = partial(Conv, act=GELU)


class ConvBlock(Fused):
    """x + drop(project(gate(expand(x)))); where the shape changes the input goes through a mean and a projection"""

    def __init__(self, cin: int, cout: int, stride: int = 1, drop: float = 0.0):
        super().__init__(cin, cout, 3, stride, 4, drop, Gelu, gate)
        self.shortcut = change(cin, cout, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.drop(self.project(self.gate(self.expand(x))))


def gate(hidden: int, cin: int) -> nn.Module:
    return SqueezeExcite(hidden, max(8, cin // 4), GELU)


def change(cin: int, cout: int, stride: int) -> nn.Module:
    if stride == 1 and same(cin, cout):
        return nn.Identity()
    return nn.Sequential(AverageDown(stride) if stride > 1 else nn.Identity(), Conv(cin, cout, 1, act=None))


def check(pattern: Sequence[str]) -> None:
    """Raise unless attention's share never falls, and is none in the first stage and half or more in the last."""
    shares = [stage.count("T") / max(1, len(stage)) for stage in pattern]
    if not all(pattern) or set("".join(pattern)) - set("CT"):
        raise UnsupportedArgument(f"pattern {pattern} should have a string of C and T for each stage")
    if shares != sorted(shares) or shares[0] > 0 or shares[-1] < 0.5:
        text = (
            f"pattern {pattern} has shares {shares} of T: they should begin at 0, never fall, and end at half or more"
        )
        raise UnsupportedArgument(text)


@family(
    about(
        title="AsCAN: Asymmetric Convolution-Attention Networks for Efficient Recognition and Generation",
        arxiv="2411.04967",
        licence="MIT",
    ),
    ascan_t=dict(pattern=("CC", "CCC", "CCCCCCTTTTT", "TTTTT"), dims=(64, 128, 320, 640)),
    ascan_b=dict(pattern=("CC", "CCCC", "CCCCCCCCTTTTTT", "TTTTT"), dims=(96, 192, 384, 768)),
    ascan_l=dict(pattern=("CC", "CCCC", "CCCCCCCTTTTTT", "TTTTTT"), dims=(128, 256, 512, 1024)),
)
def ascan(
    pattern: Sequence[str],
    dims: Sequence[int],
    stem: int = 64,
    size: int = 32,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """A string of C and T for each stage; heads of `size` channels."""
    check(pattern)
    drop, first = ramp(drop_path_rate, sum(map(len, pattern))), Width(stem, "stem")
    dims = [first, *each(*dims)]

    def block(kind: str, i: int, j: int) -> nn.Module:
        cin, cout, stride = (dims[i - 1], dims[i], 2) if j == 0 else (dims[i], dims[i], 1)
        if kind == "C":
            return ConvBlock(cin, cout, stride, next(drop))
        side = 224 >> (i + 1)
        attend = PreNorm(cout, DistanceAttention(cout, cout // size, (side, side)), drop=next(drop))
        return nn.Sequential(change(cin, cout, stride), Last(attend))

    convs = nn.Sequential(Gelu(in_chans, first, 3, 2), Gelu(first, first, 3))
    stages = [Stage(block(kind, i, j) for j, kind in enumerate(kinds)) for i, kinds in enumerate(pattern, 1)]
    head = Classifier(dims[-1], num_classes, before=LayerNorm(dims[-1], dim=1), drop=drop_rate)
    net = Network(Pyramid(convs, stages, dims, [2 << i for i in range(len(dims))]), head)
    initialise(net, linear=trunc02)
    return net
