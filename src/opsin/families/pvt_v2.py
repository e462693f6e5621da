"""PVT v2: a pyramid of transformers that attend to coarser maps. Wang et al., 2022, arXiv:2106.13797

Patches overlap, a depthwise convolution in the pointwise pair stands for positions. In the `li` form keys and values
are pooled to 7x7 at every resolution, which makes attention linear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from ..blocks import Classifier, Network, PreNorm, Pyramid
from ..blocks.stage import LastBlocks
from ..channels.dwmlp import DepthwiseMlp
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..mixers.reduction import ReducedAttention, pooled, strided
from ..registry import about, family
from ..width import each


class NormedStage(LastBlocks):
    """norm(blocks(down(x))), blocks and norm on maps with channels last"""

    def __init__(self, blocks: Iterable[nn.Module], down: nn.Module | None, norm: nn.Module):
        super().__init__(blocks, down)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.blocks(self.down(x).movedim(1, -1))).movedim(-1, 1)


def patches(cin: int, cout: int, kernel: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(cin, cout, kernel, stride, kernel // 2), LayerNorm(cout, dim=1, eps=1e-5))


@family(
    about(title="PVT v2: Improved Baselines with Pyramid Vision Transformer", arxiv="2106.13797", licence="Apache-2.0"),
    pvt_v2_b0=dict(depths=(2, 2, 2, 2), dims=(32, 64, 160, 256)),
    pvt_v2_b1=dict(depths=(2, 2, 2, 2)),
    pvt_v2_b2=dict(depths=(3, 4, 6, 3)),
    pvt_v2_b2_li=dict(depths=(3, 4, 6, 3), reduce=pooled, act=nn.ReLU),
    pvt_v2_b3=dict(depths=(3, 4, 18, 3)),
    pvt_v2_b4=dict(depths=(3, 8, 27, 3)),
    pvt_v2_b5=dict(depths=(3, 6, 40, 3), ratios=(4, 4, 4, 4)),
)
def pvt_v2(
    depths: Sequence[int],
    dims: Sequence[int] = (64, 128, 320, 512),
    heads: Sequence[int] = (1, 2, 5, 8),
    ratios: Sequence[float] = (8, 8, 4, 4),
    strides: Sequence[int] = (8, 4, 2, 1),
    reduce: Callable[[int, int], nn.Module] = strided,
    act: Callable[[], nn.Module] = nn.Identity,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`reduce(dim, stride)` makes what keys and values are read from."""
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))

    def block(i: int) -> nn.Module:
        mixer = ReducedAttention(dims[i], heads[i], reduce(dims[i], strides[i]))
        return PreNorm(dims[i], mixer, DepthwiseMlp(dims[i], ratios[i], act), next(drop))

    stages = [
        NormedStage(
            [block(i) for _ in range(depth)],
            patches(dims[i - 1], dims[i], 3, 2) if i else None,
            LayerNorm(dims[i]),
        )
        for i, depth in enumerate(depths)
    ]
    backbone = Pyramid(patches(in_chans, dims[0], 7, 4), stages, [dims[0], *dims], [4, 4, 8, 16, 32])
    net = Network(backbone, Classifier(dims[-1], num_classes, drop=drop_rate))
    initialise(net, linear=trunc02)
    return net


TIMM = """
    patch_embed.proj                     -> backbone.stem.0
    patch_embed.norm                     -> backbone.stem.1
    stages.{s}.downsample.proj           -> backbone.stages.{s}.down.0
    stages.{s}.downsample.norm           -> backbone.stages.{s}.down.1
    stages.{s}.blocks.{b}.attn.sr        -> backbone.stages.{s}.blocks.{b}.mixer.reduce.conv
    stages.{s}.blocks.{b}.attn.norm      -> backbone.stages.{s}.blocks.{b}.mixer.reduce.norm
    stages.{s}.blocks.{b}.attn           -> backbone.stages.{s}.blocks.{b}.mixer
    stages.{s}.blocks.{b}.mlp            -> backbone.stages.{s}.blocks.{b}.mlp
    stages                               -> backbone.stages
    head                                 -> head.fc
"""
