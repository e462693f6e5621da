"""FasterNet: convolutions of a quarter of the channels, and pointwise pairs. Chen et al., 2023, arXiv:2303.03667

Few memory accesses rather than few operations: one norm and one activation a block.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import Conv, DropPath, ramp, relu
from ..layers.act import GELU
from ..layers.conv import Act
from ..layers.init import initialise, trunc02
from ..mixers.partial_conv import PartialConv, partial_widths
from ..registry import about, family
from ..width import Width


class FasterNetBlock(nn.Module):
    """x + drop(project(act(norm(expand(mixer(x))))))"""

    def __init__(self, dim: int, act: Act, drop: float = 0.0):
        super().__init__()
        hidden = Width(2 * dim, "hidden")
        self.mixer, self.expand = PartialConv(dim), Conv(dim, hidden, 1, act=act)
        self.project, self.drop = nn.Conv2d(hidden, dim, 1, bias=False), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.project(self.expand(self.mixer(x))))


def patches(cin: int, cout: int, side: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(cin, cout, side, side, bias=False), nn.BatchNorm2d(cout))


@family(
    about(title="Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks", arxiv="2303.03667", licence="MIT"),
    fasternet_t0=dict(dim=40, depths=(1, 2, 8, 2), act=GELU),
    fasternet_t1=dict(dim=64, depths=(1, 2, 8, 2), act=GELU),
    fasternet_t2=dict(dim=96, depths=(1, 2, 8, 2)),
    fasternet_s=dict(dim=128, depths=(1, 2, 13, 2)),
    fasternet_m=dict(dim=144, depths=(3, 4, 18, 3)),
    fasternet_l=dict(dim=192, depths=(3, 4, 18, 3)),
)
def fasternet(
    dim: int,
    depths: Sequence[int],
    act: Act = relu,
    last: int = 1280,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dims, drop = [partial_widths(dim * 2**i) for i in range(len(depths))], ramp(drop_path_rate, sum(depths))
    stages = [
        Stage(
            [FasterNetBlock(dims[i], act, next(drop)) for _ in range(depth)],
            patches(dims[i - 1], dims[i], 2) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    backbone = Pyramid(patches(in_chans, dims[0], 4), stages, [dims[0], *dims], [4, 4, 8, 16, 32])
    head = Width(last, "head")
    after = nn.Sequential(nn.Linear(dims[-1], head, bias=False), act())
    net = Network(backbone, Classifier(head, num_classes, after=after, drop=drop_rate))
    initialise(net, conv=trunc02, linear=trunc02)
    return net


TIMM = """
    patch_embed.proj                                    -> backbone.stem.0
    patch_embed.norm                                    -> backbone.stem.1
    stages.{s}.downsample.reduction                     -> backbone.stages.{s}.down.0
    stages.{s}.downsample.norm                          -> backbone.stages.{s}.down.1
    stages.{s}.blocks.{b}.spatial_mixing.partial_conv3  -> backbone.stages.{s}.blocks.{b}.mixer.conv
    stages.{s}.blocks.{b}.mlp.0                         -> backbone.stages.{s}.blocks.{b}.expand.conv
    stages.{s}.blocks.{b}.mlp.1                         -> backbone.stages.{s}.blocks.{b}.expand.norm
    stages.{s}.blocks.{b}.mlp.3                         -> backbone.stages.{s}.blocks.{b}.project
    conv_head                                           -> head.after.0
    classifier                                          -> head.fc
"""
