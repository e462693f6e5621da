"""Aligned Xception (41, 65, 71): Xception with strided convolutions for poolings. Chen et al., 2018, arXiv:1802.02611

DeepLabv3+'s backbone: a norm behind the depthwise convolution too. Those with a `p` normalise before they convolve.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import Conv, DropPath, ramp
from ..layers.init import initialise, kaiming_out
from ..registry import about, family
from ..width import Width
from .xception import Block, depthwise, pointwise

Norm = Callable[[int], nn.Module]
loose: Norm = partial(nn.BatchNorm2d, eps=1e-3)


def twice_normed(cin: int, cout: int, stride: int = 1, inplace: bool = True) -> nn.Module:
    """norm(pointwise(norm(dwconv(act(x)))))"""
    parts = dict(act=nn.ReLU(inplace), dwconv=depthwise(cin, stride), norm1=loose(cin), conv=pointwise(cin, cout))
    return nn.Sequential(OrderedDict(**parts, norm2=loose(cout)))


def prenormed(cin: int, cout: int, stride: int = 1, inplace: bool = True, norm: Norm = loose) -> nn.Module:
    """pointwise(dwconv(act(norm(x))))"""
    parts = dict(norm=norm(cin), act=nn.ReLU(inplace=True), dwconv=depthwise(cin, stride))
    return nn.Sequential(OrderedDict(**parts, conv=pointwise(cin, cout)))


def normed_shortcut(cin: int, cout: int, stride: int) -> nn.Module:
    return Conv(cin, cout, 1, stride, act=None, norm=loose) if cin is not cout else nn.Identity()


def plain_shortcut(cin: int, cout: int, stride: int) -> nn.Module:
    return nn.Conv2d(cin, cout, 1, stride, bias=False) if cin is not cout else nn.Identity()


def aligned(cin: int, dims: Sequence[int], stride: int, drop: float) -> nn.Module:
    return Block(cin, dims, stride, drop, twice_normed, normed_shortcut)


def postnormed(cin: int, cout: int) -> nn.Module:
    """act(norm(pointwise(act(norm(dwconv(x))))))"""
    first = dict(dwconv=depthwise(cin), norm1=loose(cin), act1=nn.ReLU(inplace=True))
    return nn.Sequential(OrderedDict(**first, conv=pointwise(cin, cout), norm2=loose(cout), act2=nn.ReLU(inplace=True)))


def aligned_ends(in_chans: int, stem: Sequence[int], tail: Sequence[int]) -> tuple[nn.Module, list[nn.Module]]:
    """The stem, and the convolutions behind the last block."""
    first = nn.Sequential(Conv(in_chans, stem[0], 3, 2, norm=loose), Conv(stem[0], stem[1], norm=loose))
    return first, [postnormed(*pair) for pair in pairwise(tail)]


class PreBlock(nn.Module):
    """drop(body(y)) + shortcut(y) of y = act(norm(x))"""

    def __init__(self, cin: int, dims: Sequence[int], stride: int = 1, drop: float = 0.0, norm: Norm = loose):
        super().__init__()
        self.norm, self.act = norm(cin), nn.ReLU(inplace=True)
        first = nn.Sequential(OrderedDict(dwconv=depthwise(cin), conv=pointwise(cin, dims[0])))
        strides = [1] * (len(dims) - 2) + [stride]
        self.body = nn.Sequential(first, *[prenormed(a, b, s, norm=norm) for (a, b), s in zip(pairwise(dims), strides)])
        self.shortcut, self.drop = plain_shortcut(cin, dims[-1], stride), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(x))
        return self.drop(self.body(y)) + self.shortcut(y)


def prenorm_ends(
    in_chans: int, stem: Sequence[int], tail: Sequence[int], norm: Norm = loose
) -> tuple[nn.Module, list[nn.Module]]:
    conv = nn.Conv2d(stem[0], stem[1], 3, padding=1, bias=False)
    first = nn.Sequential(Conv(in_chans, stem[0], 3, 2, norm=norm), nn.Sequential(OrderedDict(conv=conv)))
    return first, [prenormed(*pair, norm=norm) for pair in pairwise(tail)]


ENTRY = ((128, 2), (256, 2), (728, 2))
ENTRY_71 = ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))
PRE = dict(block=PreBlock, ends=prenorm_ends, act=nn.ReLU)
STRICT = dict(
    block=partial(PreBlock, norm=nn.BatchNorm2d), ends=partial(prenorm_ends, norm=nn.BatchNorm2d), act=nn.ReLU
)


@family(
    about(
        title="Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
        arxiv="1802.02611",
        licence="Apache-2.0",
        native=299,
        dilates=True,
    ),
    xception41=dict(depth=8),
    xception65=dict(depth=16),
    xception71=dict(depth=16, entry=ENTRY_71),
    xception41p=dict(depth=8, **STRICT),
    xception65p=dict(depth=16, **PRE),
)
def xception_aligned(
    depth: int,
    entry: Sequence[tuple[int, int]] = ENTRY,
    block: Callable[..., nn.Module] = aligned,
    ends: Callable[..., tuple[nn.Module, list[nn.Module]]] = aligned_ends,
    act: Callable[[], nn.Module] = nn.Identity,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`entry`: channels and strides of the first blocks; `depth` more of 728 channels; `act` stands before the head."""
    stem = [Width(32, "stem1"), Width(64, "stem2")]
    tail = [Width(size, "dim") for size in (1024, 1536, 1536, 2048)]
    first, last = ends(in_chans, stem, tail)
    dim, drop, stages, widths = stem[1], ramp(drop_path_rate, depth + len(entry) + 1), [], [stem[1]]
    for size, stride in entry:
        cin, dim = dim, Width(size, "dim")
        made = block(cin, [Width(size, "h1"), Width(size, "h2"), dim], stride, next(drop))
        stages += [[made]] if stride == 2 else []
        stages[-1] += [made] if stride == 1 else []
        widths[len(stages) :] = [dim]
    stages[-1] += [block(dim, [Width(728, "h1"), Width(728, "h2"), dim], 1, next(drop)) for _ in range(depth)]
    leave = block(dim, [Width(728, "h1"), Width(1024, "h2"), tail[0]], 2, next(drop))
    stages.append([leave, *last])
    backbone = Pyramid(first, [Stage(blocks) for blocks in stages], [*widths, tail[-1]], [2, 4, 8, 16, 32])
    net = Network(backbone, Classifier(tail[-1], num_classes, before=act(), drop=drop_rate))
    initialise(net.backbone, conv=kaiming_out)
    return net


UNITS = {"conv_dw": "dwconv", "bn_dw": "norm1", "conv_pw": "conv", "bn_pw": "norm2"}
PRE_UNITS = {"conv_dw": "dwconv", "norm": "norm", "conv_pw": "conv"}


def table(depth: int, units: dict[str, str] = UNITS, entry: Sequence[tuple[int, int]] = ENTRY) -> str:
    """Rules for the published numbering, which counts blocks through; the last block's units stand alone here."""
    strides = [stride for _, stride in entry] + [1] * depth + [2]
    stage = [strides[: i + 1].count(2) - 1 for i in range(len(strides))]
    places = [f"backbone.stages.{s}.blocks.{b - stage.index(s)}" for b, s in enumerate(stage)]
    last = f"blocks.{len(strides)}"
    rules = [f"blocks.{b}.{old} -> {place}.{new}" for b, place in enumerate(places) for old, new in AROUND.items()]
    for old, new in units.items():
        rules += [f"blocks.{b}.stack.conv{{i}}.{old} -> {at}.body.{{i-1}}.{new}" for b, at in enumerate(places)]
        rules.append(f"{last}.stack.conv{{i}}.{old} -> backbone.stages.3.blocks.{{i}}.{new}")
    return "\n".join([*rules, f"{last}.norm -> backbone.stages.3.blocks.1.norm", ENDS])


AROUND = {"shortcut.conv": "shortcut.conv", "shortcut.bn": "shortcut.norm", "shortcut": "shortcut", "norm": "norm"}
ENDS = """
    stem.{i}.conv  -> backbone.stem.{i}.conv
    stem.{i}.bn    -> backbone.stem.{i}.norm
    stem.1         -> backbone.stem.1.conv
    head.fc        -> head.fc
"""
TIMM_41, TIMM_65, TIMM_71 = table(8), table(16), table(16, entry=ENTRY_71)
TIMM_41P, TIMM_65P = table(8, PRE_UNITS), table(16, PRE_UNITS)
