"""DDRNet: two resolutions that trade features, for segmentation in real time. Hong et al., 2021, arXiv:2101.06085

A branch at 1/8 keeps detail, one down to 1/64 gathers context through DAPPM, pooled contexts each refined on top of
the finer one. Logits come at 1/8 of the image; sides must be multiples of 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Features, Network
from ..blocks.residual import shortcut
from ..layers import Conv
from ..layers.init import initialise, kaiming_out
from ..registry import about, family
from ..width import Concat, Width, each


class Residual(nn.Module):
    """convs(x) + shortcut(x); the activation is left to the caller, so that branches can be summed before it"""

    def __init__(self, cin: int, cout: int, stride: int, convs: Sequence[nn.Module]):
        super().__init__()
        self.convs, self.shortcut = nn.Sequential(*convs), shortcut(cin, cout, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x) + self.shortcut(x)


def basic(cin: int, cout: int, stride: int = 1) -> nn.Module:
    hidden = Width(cout, "hidden")
    return Residual(cin, cout, stride, [Conv(cin, hidden, 3, stride), Conv(hidden, cout, act=None)])


def bottleneck(cin: int, cout: int, stride: int = 1) -> nn.Module:
    a, b = Width(cin, "reduced"), Width(cin, "mixed")
    return Residual(cin, cout, stride, [Conv(cin, a, 1), Conv(a, b, 3, stride), Conv(b, cout, 1, act=None)])


class Basics(nn.Sequential):
    """Basic blocks with ReLU between them and none behind, unless there is only one"""

    def __init__(self, cin: int, cout: int, depth: int, stride: int = 1):
        super().__init__(*[basic(cout if i else cin, cout, 1 if i else stride) for i in range(depth)])

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self):
            x = block(F.relu(x) if i else x)
        return F.relu(x) if len(self) == 1 else x


def norm_conv(cin: int, cout: int, kernel: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(cin), nn.ReLU(inplace=True), nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=False)
    )


def resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear")


class DAPPM(nn.Module):
    """fuse([c0 ... c4]) + shortcut(x), with c0 = scale0(x) and c_i = refine_i(scale_i(pool_i(x)) + c_(i-1))"""

    def __init__(self, cin: int, context: int, cout: int):
        super().__init__()
        pools = [nn.AvgPool2d(5, 2, 2), nn.AvgPool2d(9, 4, 4), nn.AvgPool2d(17, 8, 8), nn.AdaptiveAvgPool2d(1)]
        made = each(*[context] * 5, name="context")
        self.pools = nn.ModuleList(pools)
        self.scales = nn.ModuleList(norm_conv(cin, c) for c in [made[0], *made[:-1]])  # added to the context before
        self.refine = nn.ModuleList(norm_conv(a, b, 3) for a, b in pairwise(made))
        self.fuse, self.shortcut = norm_conv(Concat(*made), cout), norm_conv(cin, cout)

    def forward(self, x: Tensor) -> Tensor:
        made = [self.scales[0](x)]
        for pool, scale, refine in zip(self.pools, self.scales[1:], self.refine):
            made.append(refine(resize(scale(pool(x)), x) + made[-1]))
        return self.fuse(torch.cat(made, 1)) + self.shortcut(x)


class Trade(nn.Module):
    """Both branches run on, then each is given the other: (context, detail) -> (context, detail)"""

    def __init__(self, context: nn.Module, detail: nn.Module, sink: nn.Module, lift: nn.Module):
        super().__init__()
        self.context, self.detail, self.sink, self.lift = context, detail, sink, lift

    def forward(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.context(F.relu(low)), self.detail(F.relu(high))
        return low + self.sink(F.relu(high)), high + resize(self.lift(F.relu(low)), high)


class DualResolution(nn.Module):
    """stem, two plain stages, trades between the branches, both ends summed at 1/8

    Taps: both plain stages (1/4, 1/8), detail behind every trade but the last, as the auxiliary head wants it (1/8),
    and the sum (1/8).
    """

    def __init__(self, depths: Sequence[int], dim: int, context: int, in_chans: int, halves: int):
        super().__init__()
        a, b, c, d, e = each(dim, dim * 2, dim * 4, dim * 8, dim * 16)
        out, first, middle = Width(dim * 4, "out"), Width(dim, "stem"), Width(dim * 4, "middle")
        self.stem = nn.Sequential(
            *[
                part
                for cin, cout in ((in_chans, first), (first, a))
                for part in (nn.Conv2d(cin, cout, 3, 2, 1), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))
            ]
        )
        self.stage1, self.stage2 = Basics(a, a, depths[0]), Basics(a, b, depths[1], 2)
        third, detail = depths[2] // halves, 2 if halves == 1 else depths[2] // 2
        self.trades = nn.ModuleList(
            Trade(
                Basics(c if i else b, c, third, 1 if i else 2),
                Basics(b, b, detail),
                Conv(b, c, 3, 2, act=None),
                Conv(c, b, 1, act=None),
            )
            for i in range(halves)
        )
        self.trades.append(
            Trade(
                Basics(c, d, depths[3], 2),
                Basics(b, b, 2 if halves == 1 else depths[3]),
                nn.Sequential(Conv(b, middle, 3, 2), Conv(middle, d, 3, 2, act=None)),
                Conv(d, b, 1, act=None),
            )
        )
        self.deep, self.context, self.detail = bottleneck(d, e, 2), DAPPM(e, context, out), bottleneck(b, out)
        self.widths, self.strides = [a, b, b, out], [4, 8, 8, 8]

    def forward(self, x: Tensor, taps: Sequence[int] = (-1,)) -> Features:
        first = self.stage1(self.stem(x))
        low = high = second = self.stage2(F.relu(first))
        for trade in self.trades[:-1]:
            low, high = trade(low, high)
        third = high
        low, high = self.trades[-1](low, high)
        out = self.detail(F.relu(high)) + resize(self.context(self.deep(F.relu(low))), high)
        return Features([(first, second, third, out)[tap] for tap in taps], [self.strides[tap] for tap in taps])


class Segmenter(nn.Module):
    """fc(relu(norm2(conv1(relu(norm1(last map)))))): logits (B, num_classes, H/8, W/8)"""

    taps: tuple[int, ...] = (-1,)

    def __init__(self, cin: int, hidden: int, num_classes: int, drop: float = 0.0):
        super().__init__()
        self.width = hidden = Width(hidden, "hidden")
        self.norm1, self.conv1 = nn.BatchNorm2d(cin), nn.Conv2d(cin, hidden, 3, padding=1, bias=False)
        self.norm2, self.drop = nn.BatchNorm2d(hidden), nn.Dropout(drop)
        self.reset(num_classes)

    def unpooled(self, features: Features) -> Tensor:
        return features.maps[-1]

    def pooled(self, x: Tensor) -> Tensor:
        return F.relu(self.norm2(self.conv1(F.relu(self.norm1(x)))))

    def vector(self, x: Tensor) -> Tensor:
        return self.drop(self.pooled(x)).mean((2, 3))

    def forward(self, features: Features) -> Tensor:
        return self.fc(self.drop(self.pooled(self.unpooled(features))))

    def reset(self, num_classes: int) -> None:
        self.fc = nn.Conv2d(self.width, num_classes, 1) if num_classes else nn.Identity()


class Supervised(Segmenter):
    """[logits, auxiliary logits]: a second segmenter reads the detail branch on its way"""

    taps = (-2, -1)

    def __init__(self, cin: int, middle: int, hidden: int, num_classes: int, drop: float = 0.0):
        super().__init__(cin, hidden, num_classes, drop)
        self.auxiliary = Segmenter(middle, hidden, num_classes, drop)

    def forward(self, features: Features) -> list[Tensor]:  # type: ignore[override]  # as training wants it
        middle, last = (Features([m], [s]) for m, s in zip(features.maps, features.strides))
        return [super().forward(last), self.auxiliary(middle)]

    def reset(self, num_classes: int) -> None:
        super().reset(num_classes)
        if hasattr(self, "auxiliary"):
            self.auxiliary.reset(num_classes)


@family(
    about(
        title="Deep Dual-resolution Networks for Real-time and Accurate Semantic Segmentation of Road Scenes",
        arxiv="2101.06085",
        licence="MIT",
        native=1024,
        multiple=8,
        task="segment",
    ),
    ddrnet23_slim=dict(dim=32, hidden=64),
    ddrnet23=dict(dim=64, hidden=128),
    ddrnet39=dict(depths=(3, 4, 6, 3), dim=64, hidden=256, halves=2),
)
def ddrnet(
    dim: int,
    hidden: int,
    depths: Sequence[int] = (2, 2, 2, 2),
    context: int = 128,
    halves: int = 1,
    auxiliary: bool = False,
    num_classes: int = 19,
    in_chans: int = 3,
    drop_rate: float = 0.0,
) -> Network:
    """`halves` parts of the third stage, each with a trade behind it; `auxiliary` adds the training head."""
    backbone = DualResolution(depths, dim, context, in_chans, halves)
    middle, out = backbone.widths[-2:]
    if auxiliary:
        head: Segmenter = Supervised(out, middle, hidden, num_classes, drop_rate)
    else:
        head = Segmenter(out, hidden, num_classes, drop_rate)
    net = Network(backbone, head)
    initialise(net, conv=kaiming_out)
    return net


def residual(theirs: str, ours: str) -> str:
    """Rules for the authors' residual blocks."""
    return f"""
    {theirs}.conv{{i}}         -> backbone.{ours}.convs.{{i-1}}.conv
    {theirs}.bn{{i}}           -> backbone.{ours}.convs.{{i-1}}.norm
    {theirs}.downsample.0      -> backbone.{ours}.shortcut.conv
    {theirs}.downsample.1      -> backbone.{ours}.shortcut.norm"""


def conv(theirs: str, ours: str, first: int = 0) -> str:
    """Rules for a convolution and its norm, numbered in the authors' sequence."""
    return f"""
    {theirs}.{first}           -> backbone.{ours}.conv
    {theirs}.{first + 1}       -> backbone.{ours}.norm"""


ENDS = (
    residual("layer5.0", "deep")
    + residual("layer5_.0", "detail")
    + residual("layer{s}.{b}", "stage{s}.{b}")
    + """
    conv1                      -> backbone.stem
    spp.scale0                 -> backbone.context.scales.0
    spp.scale{i}.1             -> backbone.context.scales.{i}.0
    spp.scale{i}.3             -> backbone.context.scales.{i}.2
    spp.process{i}             -> backbone.context.refine.{i-1}
    spp.compression            -> backbone.context.fuse
    spp.shortcut               -> backbone.context.shortcut
    seghead_extra.conv2        -> head.auxiliary.fc
    seghead_extra.bn{i}        -> head.auxiliary.norm{i}
    seghead_extra              -> head.auxiliary
    final_layer.conv2          -> head.fc
    final_layer.bn{i}          -> head.norm{i}
    final_layer                -> head
"""
)


def fourth(i: int) -> str:
    """The last trade, number i."""
    return (
        residual("layer4.{b}", f"trades.{i}.context.{{b}}")
        + residual("layer4_.{b}", f"trades.{i}.detail.{{b}}")
        + conv("compression4", f"trades.{i}.lift")
        + conv("down4", f"trades.{i}.sink.0")
        + conv("down4", f"trades.{i}.sink.1", 3)
    )


AUTHORS_23 = (
    residual("layer3.{b}", "trades.0.context.{b}")
    + residual("layer3_.{b}", "trades.0.detail.{b}")
    + conv("compression3", "trades.0.lift")
    + conv("down3", "trades.0.sink")
    + fourth(1)
    + ENDS
)
AUTHORS_39 = (
    residual("layer3_{h}.{b}", "trades.{h-1}.context.{b}")
    + residual("layer3_{h}_.{b}", "trades.{h-1}.detail.{b}")
    + conv("compression3_{h}", "trades.{h-1}.lift")
    + conv("down3_{h}", "trades.{h-1}.sink")
    + fourth(2)
    + ENDS
)
