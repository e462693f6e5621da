"""ConvNeXt: a ResNet brought up to the habits of transformers. Liu et al., 2022, arXiv:2201.03545

Depthwise 7x7 convolutions mix places, a wide pointwise pair mixes channels, one LayerNorm a block, patchified stem.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm, Scale, ramp
from ..layers.init import initialise, trunc02
from ..registry import about, family
from ..width import each


class ConvNeXtBlock(nn.Module):
    """x + drop(scale(mlp(norm(depthwise 7x7(x)))))"""

    def __init__(self, dim: int, kernel: int = 7, drop: float = 0.0):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm, self.mlp = LayerNorm(dim), Mlp(dim)
        self.scale, self.drop = Scale(dim), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).movedim(1, -1)
        y = self.scale(self.mlp(self.norm(y)))
        return x + self.drop(y.movedim(-1, 1))


def halve(cin: int, cout: int) -> nn.Module:
    return nn.Sequential(LayerNorm(cin, dim=1), nn.Conv2d(cin, cout, 2, 2))


@family(
    about(title="A ConvNet for the 2020s", arxiv="2201.03545", licence="MIT", dilates=False),
    convnext_atto=dict(depths=(2, 2, 6, 2), dims=(40, 80, 160, 320)),
    convnext_femto=dict(depths=(2, 2, 6, 2), dims=(48, 96, 192, 384)),
    convnext_pico=dict(depths=(2, 2, 6, 2), dims=(64, 128, 256, 512)),
    convnext_nano=dict(depths=(2, 2, 8, 2), dims=(80, 160, 320, 640)),
    convnext_tiny=dict(depths=(3, 3, 9, 3), dims=(96, 192, 384, 768)),
    convnext_small=dict(depths=(3, 3, 27, 3), dims=(96, 192, 384, 768)),
    convnext_base=dict(depths=(3, 3, 27, 3), dims=(128, 256, 512, 1024)),
    convnext_large=dict(depths=(3, 3, 27, 3), dims=(192, 384, 768, 1536)),
    convnext_xlarge=dict(depths=(3, 3, 27, 3), dims=(256, 512, 1024, 2048)),
)
def convnext(
    depths: Sequence[int],
    dims: Sequence[int],
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    stem = nn.Sequential(nn.Conv2d(in_chans, dims[0], 4, 4), LayerNorm(dims[0], dim=1))
    stages = [
        Stage(
            [ConvNeXtBlock(dims[i], drop=next(drop)) for _ in range(depth)], halve(dims[i - 1], dims[i]) if i else None
        )
        for i, depth in enumerate(depths)
    ]
    head = Classifier(dims[-1], num_classes, after=LayerNorm(dims[-1]), drop=drop_rate)
    net = Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, conv=trunc02, linear=trunc02)
    return net


TIMM = """
    stem                              -> backbone.stem
    stages.{s}.downsample             -> backbone.stages.{s}.down
    stages.{s}.blocks.{b}.conv_dw     -> backbone.stages.{s}.blocks.{b}.dwconv
    stages.{s}.blocks.{b}.gamma       -> backbone.stages.{s}.blocks.{b}.scale.gamma
    stages.{s}.blocks.{b}             -> backbone.stages.{s}.blocks.{b}
    head.norm                         -> head.after
    head.fc                           -> head.fc
"""
