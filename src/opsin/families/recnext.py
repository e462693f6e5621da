"""RecNeXt: a MetaNeXt for phones whose kernels reach far by recursion. Zhao et al., 2024, arXiv:2412.19628

The M series mixes by recursive convolutions, one level less a stage; the A series by linear attention on halved maps
between depthwise convolutions. Two classifiers are averaged, of which a teacher may train one.
`deploy.fuse(layers.reparam.reparameterize(net))` leaves convolutions without norms and one classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..blocks import Network, Pyramid, Stage
from ..blocks.two_heads import TwoHeadClassifier, normed
from ..layers import Conv, DropPath
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..mixers.recattn import RecAttention, linear, paired
from ..mixers.recconv import RecConv
from ..registry import about, family
from ..width import Groups, Width

Make = Callable[[int], nn.Module]


def mlp(dim: int, ratio: float) -> nn.Module:
    hidden = Width(int(ratio * dim), "hidden")
    return nn.Sequential(Conv(dim, hidden, 1, act=GELU), Conv(hidden, dim, 1, act=None))


class RecNeXtBlock(nn.Module):
    """x + drop(mlp(norm(mixer(x))))"""

    def __init__(self, dim: int, mixer: Make, norm: Make, ratio: float, drop: float = 0.0):
        super().__init__()
        self.mixer, self.norm, self.mlp, self.drop = mixer(dim), norm(dim), mlp(dim, ratio), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.mlp(self.norm(self.mixer(x))))


class Down(nn.Module):
    """y + mlp(y), y = norm(conv(x)): a depthwise convolution that makes two channels of each"""

    def __init__(self, cin: int, cout: int, ratio: float):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(cin, cout, 7, 2, 3, groups=cin), nn.BatchNorm2d(cout)
        self.mlp = mlp(cout, ratio)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return y + self.mlp(y)


def doubled(dim: int) -> list[int]:
    """Widths of four stages: every channel becomes two neighbours at the next."""
    dims: list[int] = [Width(dim, "dim")]
    for _ in range(3):
        dims.append(Groups(dims[-1], 2))
    return dims


def rigid(dim: int) -> list[int]:
    """The same as plain numbers: heads cut through the pairs, so that no channel can go without moving others'."""
    return [dim * 2**i for i in range(4)]


ATTENTION: dict[str, Any] = dict(
    mixers=tuple(partial(RecAttention, heads=2 ** (i + 1), attend=paired if i == 3 else linear) for i in range(4)),
    norm=nn.Identity,
    widths=rigid,
)
SIZES: tuple[dict[str, Any], ...] = (
    dict(dim=40, depths=(2, 2, 9, 1)),
    dict(dim=48, depths=(3, 3, 15, 2)),
    dict(dim=56, depths=(3, 3, 15, 2)),
    dict(dim=64, depths=(3, 3, 13, 2)),
    dict(dim=64, depths=(5, 5, 25, 4)),
    dict(dim=80, depths=(7, 7, 35, 2)),
)


@family(
    about(
        title="RecConv: Efficient Recursive Convolutions for Multi-Frequency Representations",
        arxiv="2412.19628",
        licence="Apache-2.0",
    ),
    **{f"recnext_m{i}": size for i, size in enumerate(SIZES)},
    **{f"recnext_a{i}": dict(**size, **ATTENTION, ratio=2 if i < 3 else 1.875) for i, size in enumerate(SIZES)},
)
def recnext(
    dim: int,
    depths: Sequence[int],
    mixers: Sequence[Make] = tuple(partial(RecConv, level=4 - i) for i in range(4)),
    norm: Make = nn.BatchNorm2d,
    widths: Callable[[int], list[int]] = doubled,
    ratio: float = 2,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Blocks are all dropped at the same rate."""
    dims, hidden = widths(dim), Width(dim // 2, "stem")
    stem = nn.Sequential(Conv(in_chans, hidden, 3, 2, act=GELU), Conv(hidden, dims[0], 3, 2, act=None))
    stages = [
        Stage(
            [RecNeXtBlock(dims[i], mixers[i], norm, ratio, drop_path_rate) for _ in range(depth)],
            Down(dims[i - 1], dims[i], ratio) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    head = TwoHeadClassifier(dims[-1], num_classes, normed, drop=drop_rate)
    initialise(head, linear=trunc02)
    return Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)


BODY = """
    stem.stem.0                                    -> backbone.stem.0{conv}
    stem.stem.2                                    -> backbone.stem.1{conv}
    stages.{s}.downsample.token_mixer              -> backbone.stages.{s}.down.conv
    stages.{s}.downsample.norm                     -> backbone.stages.{s}.down.norm
    stages.{s}.downsample.channel_mixer.0          -> backbone.stages.{s}.down.mlp.0{conv}
    stages.{s}.downsample.channel_mixer.2          -> backbone.stages.{s}.down.mlp.1{conv}
    stages.{s}.blocks.{b}.token_mixer.down.0       -> backbone.stages.{s}.blocks.{b}.mixer.down{conv}
    stages.{s}.blocks.{b}.token_mixer.down.1.qk    -> backbone.stages.{s}.blocks.{b}.mixer.attention.qk{conv}
    stages.{s}.blocks.{b}.token_mixer.down.1.pe    -> backbone.stages.{s}.blocks.{b}.mixer.attention.near{conv}
    stages.{s}.blocks.{b}.token_mixer.conv         -> backbone.stages.{s}.blocks.{b}.mixer.conv{conv}
    stages.{s}.blocks.{b}.token_mixer              -> backbone.stages.{s}.blocks.{b}.mixer
    stages.{s}.blocks.{b}.norm                     -> backbone.stages.{s}.blocks.{b}.norm
    stages.{s}.blocks.{b}.channel_mixer.0          -> backbone.stages.{s}.blocks.{b}.mlp.0{conv}
    stages.{s}.blocks.{b}.channel_mixer.2          -> backbone.stages.{s}.blocks.{b}.mlp.1{conv}
"""
AUTHORS = (
    BODY.replace("{conv}", "")
    + """
    head.head.norm                                 -> head.fc.labels.norm
    head.head.linear                               -> head.fc.labels.fc
    head.head_dist.norm                            -> head.fc.teacher.norm
    head.head_dist.linear                          -> head.fc.teacher.fc
"""
)
AUTHORS_FUSED = BODY.replace("{conv}", ".conv") + "head -> head.fc"
