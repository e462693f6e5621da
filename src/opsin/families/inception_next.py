"""InceptionNeXt: ConvNeXt with its large kernel split into cheap branches. Yu et al., 2023, arXiv:2303.16900

Most channels are not mixed at all. BatchNorm in place of LayerNorm, and a hidden layer in front of the classifier.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm, Scale, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..mixers.inception import InceptionConv, inception_widths
from ..registry import about, family
from ..width import Width


class InceptionNeXtBlock(nn.Module):
    """x + drop(scale(mlp(norm(mixer(x)))))"""

    def __init__(self, dim: int, band: int, ratio: float, drop: float = 0.0):
        super().__init__()
        self.mixer, self.norm, self.mlp = InceptionConv(dim, band), nn.BatchNorm2d(dim), Mlp(dim, ratio)
        self.scale, self.drop = Scale(dim), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.mixer(x)).movedim(1, -1)
        return x + self.drop(self.scale(self.mlp(y)).movedim(-1, 1))


def halve(cin: int, cout: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(cin), nn.Conv2d(cin, cout, 2, 2))


@family(
    about(title="InceptionNeXt: When Inception Meets ConvNeXt", arxiv="2303.16900", licence="Apache-2.0"),
    inception_next_atto=dict(depths=(2, 2, 6, 2), dims=(40, 80, 160, 320), band=9, share=0.25),
    inception_next_tiny=dict(depths=(3, 3, 9, 3), dims=(96, 192, 384, 768)),
    inception_next_small=dict(depths=(3, 3, 27, 3), dims=(96, 192, 384, 768)),
    inception_next_base=dict(depths=(3, 3, 27, 3), dims=(128, 256, 512, 1024)),
)
def inception_next(
    depths: Sequence[int],
    dims: Sequence[int],
    band: int = 11,
    share: float = 0.125,
    ratios: Sequence[float] = (4, 4, 4, 3),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """A `share` of the channels goes through each branch; bands are `band` pixels long."""
    dims, drop = [inception_widths(dim, share) for dim in dims], ramp(drop_path_rate, sum(depths))
    stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 4, 4), nn.BatchNorm2d(dims[0]))
    stages = [
        Stage(
            [InceptionNeXtBlock(dims[i], band, ratios[i], next(drop)) for _ in range(depth)],
            halve(dims[i - 1], dims[i]) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    hidden = Width(3 * dims[-1], "head")
    after = nn.Sequential(nn.Linear(dims[-1], hidden), GELU(), LayerNorm(hidden))
    head = Classifier(hidden, num_classes, after=after, drop=drop_rate)
    net = Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, conv=trunc02, linear=trunc02)
    return net


TIMM = """
    stem                                          -> backbone.stem
    stages.{s}.downsample                         -> backbone.stages.{s}.down
    stages.{s}.blocks.{b}.token_mixer.dwconv_hw   -> backbone.stages.{s}.blocks.{b}.mixer.square
    stages.{s}.blocks.{b}.token_mixer.dwconv_w    -> backbone.stages.{s}.blocks.{b}.mixer.row
    stages.{s}.blocks.{b}.token_mixer.dwconv_h    -> backbone.stages.{s}.blocks.{b}.mixer.column
    stages.{s}.blocks.{b}.gamma                   -> backbone.stages.{s}.blocks.{b}.scale.gamma
    stages.{s}.blocks.{b}                         -> backbone.stages.{s}.blocks.{b}
    head.fc1                                      -> head.after.0
    head.norm                                     -> head.after.2
    head.fc2                                      -> head.fc
"""
