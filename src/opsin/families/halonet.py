"""HaloNet: ResNets whose 3x3 convolutions give way to local attention. Vaswani et al., 2021, arXiv:2103.12731

H0 to H7 are the paper's; `26t` and `50ts` are timm's, with attention in late blocks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..blocks.residual import shortcut
from ..layers import Conv, DropPath, ramp, relu, silu
from ..layers.conv import Act
from ..layers.init import initialise, kaiming_out
from ..mixers.halo import HaloAttention
from ..registry import about, family
from ..width import Width, each

Middle = tuple[nn.Module, int]  # what stands between the 1x1 convolutions, and the channels that it gives


class HaloBottleneck(nn.Module):
    """act(drop(conv3(middle(conv1(x)))) + shortcut(x)), of the given middle between 1x1 convolutions"""

    def __init__(self, cin: int, cout: int, hidden: int, stride: int, middle: Middle, act: Act, drop: float = 0.0):
        super().__init__()
        self.middle, made = middle
        self.conv1, self.conv3 = Conv(cin, hidden, 1, act=act), Conv(made, cout, 1, act=None)
        self.shortcut, self.drop, self.act = shortcut(cin, cout, stride), DropPath(drop), act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(self.conv3(self.middle(self.conv1(x)))) + self.shortcut(x))


def attention(dim: int, heads: int, square: int, halo: int, stride: int, values: float, act: Act) -> Middle:
    mixer = HaloAttention(dim, heads, square, halo, stride, values)
    return nn.Sequential(mixer, nn.BatchNorm2d(mixer.width), act()), mixer.width


def convolution(dim: int, stride: int, act: Act) -> Middle:
    made = Width(dim, "mixed")
    return nn.Sequential(Conv(dim, made, 3, stride, act=act)), made


def tiered(in_chans: int, dim: int, act: Act) -> nn.Module:
    dims = [in_chans, Width(24, "stem"), Width(32, "stem"), dim]
    return nn.Sequential(*[Conv(a, b, 3, 1 if i else 2, act=act) for i, (a, b) in enumerate(pairwise(dims))])


def single(in_chans: int, dim: int, act: Act) -> nn.Module:
    return nn.Sequential(Conv(in_chans, dim, 7, 2, act=act))


def classifier(dim: int, last: int, act: Act, num_classes: int, drop: float) -> Classifier:
    """With a convolution to `last` channels before the pooling, if any."""
    wide = Width(last, "head") if last else dim
    before = Conv(dim, wide, 1, act=act) if last else None
    return Classifier(wide, num_classes, before=before, drop=drop)


ALL = tuple(tuple(range(99)) for _ in range(4))


def paper(square: int, halo: int, values: float, thin: float, deep: int, pixels: int, last: int = 0) -> dict[str, Any]:
    """A row of the paper's table: blocks' side, halo, factors of values and of what blocks hand on, depth, head."""
    dims = tuple(int(thin * 64 * 2**s) for s in range(4))
    told = dict(square=square, halo=halo, values=values, thin=thin, last=last, native=pixels, local=ALL)
    return dict(**told, depths=(3, 3, deep, 3), dims=dims, stem=single, act=relu)


@family(
    about(
        title="Scaling Local Self-Attention for Parameter Efficient Visual Backbones",
        arxiv="2103.12731",
        licence="Apache-2.0",
        native=256,
    ),
    halonet_h0=paper(8, 3, 1.0, 0.5, 7, 256),
    halonet_h1=paper(8, 3, 1.0, 1.0, 10, 256),
    halonet_h2=paper(8, 3, 1.0, 1.25, 11, 256),
    halonet_h3=paper(10, 3, 1.0, 1.5, 12, 320, 1024),
    halonet_h4=paper(12, 2, 1.0, 3.0, 12, 384, 1280),
    halonet_h5=paper(14, 2, 2.5, 2.0, 23, 448, 1536),
    halonet_h6=paper(8, 4, 3.0, 2.75, 24, 512, 1536),
    halonet_h7=paper(10, 3, 4.0, 3.5, 26, 600, 2048),
    halonet26t=dict(depths=(2, 2, 2, 2), local=((), (), (1,), (0, 1)), halo=2, act=relu),
    halonet50ts=dict(depths=(3, 4, 6, 3), local=((), (3,), (1, 3, 5), (1,)), heads=(8, 4, 8, 8)),
)
def halonet(
    depths: Sequence[int],
    dims: Sequence[int] = (256, 512, 1024, 2048),
    thin: float = 4,
    local: Sequence[Sequence[int]] = ALL,
    heads: Sequence[int] = (8, 8, 8, 8),
    square: int = 8,
    halo: int = 3,
    values: float = 1.0,
    last: int = 0,
    act: Act = silu,
    stem: Callable[[int, int, Act], nn.Module] = tiered,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Blocks named in `local` have attention; inner channels are `thin` times fewer. A head of `last` if any."""
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    first = dims[0] if dims[0] == 64 else Width(64, "stem")  # without a change of shape the first block adds its input

    def block(i: int, j: int) -> nn.Module:
        cin, cout, stride = dims[i] if j else [first, *dims][i], dims[i], 1 if j or not i else 2
        hidden = Width(round(cout / thin), "hidden")
        attends = j in local[i]
        middle = (
            attention(hidden, heads[i], square, halo, stride, values, act)
            if attends
            else convolution(hidden, stride, act)
        )
        return HaloBottleneck(cin, cout, hidden, stride, middle, act, next(drop))

    stages = [
        Stage([block(i, j) for j in range(depth)], None if i else nn.MaxPool2d(3, 2, 1))
        for i, depth in enumerate(depths)
    ]
    backbone = Pyramid(stem(in_chans, first, act), stages, [first, *dims], [2, 4, 8, 16, 32])
    net = Network(backbone, classifier(dims[-1], last, act, num_classes, drop_rate))
    initialise(net.backbone, conv=kaiming_out)
    return net


TIMM = """
    stem.conv{i}.conv                               -> backbone.stem.{i-1}.conv
    stem.conv{i}.bn                                 -> backbone.stem.{i-1}.norm
    stages.{s}.{b}.shortcut.conv                    -> backbone.stages.{s}.blocks.{b}.shortcut.conv
    stages.{s}.{b}.shortcut.bn                      -> backbone.stages.{s}.blocks.{b}.shortcut.norm
    stages.{s}.{b}.conv{i}_1x1.conv                 -> backbone.stages.{s}.blocks.{b}.conv{i}.conv
    stages.{s}.{b}.conv{i}_1x1.bn                   -> backbone.stages.{s}.blocks.{b}.conv{i}.norm
    stages.{s}.{b}.conv2_kxk.conv                   -> backbone.stages.{s}.blocks.{b}.middle.0.conv
    stages.{s}.{b}.conv2_kxk.bn                     -> backbone.stages.{s}.blocks.{b}.middle.0.norm
    stages.{s}.{b}.self_attn.pos_embed.height_rel   -> backbone.stages.{s}.blocks.{b}.middle.0.rows
    stages.{s}.{b}.self_attn.pos_embed.width_rel    -> backbone.stages.{s}.blocks.{b}.middle.0.columns
    stages.{s}.{b}.self_attn                        -> backbone.stages.{s}.blocks.{b}.middle.0
    stages.{s}.{b}.post_attn                        -> backbone.stages.{s}.blocks.{b}.middle.1
    head.fc                                         -> head.fc
"""
