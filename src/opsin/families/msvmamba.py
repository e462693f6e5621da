"""Multi-Scale VMamba: three of a map's four scans run at half its sides. Shi et al., 2024, arXiv:2405.14174

The v3 forms are those of the later code: no gate but in the largest, and a norm behind the convolutional pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from ..blocks import Classifier, Network, PreNorm, Pyramid
from ..blocks.stage import LastBlocks
from ..channels.convffn import ConvFfn
from ..layers import DropPath, LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..mixers.multi_scale_scan import FirstMultiScaleScan, GatedMultiScaleScan, MultiScaleScan
from ..registry import about, family
from ..width import each
from .efficient_vmamba import MapMerging
from .vmamba import AUTHORS as VMAMBA
from .vmamba import AUTHORS_V0 as VMAMBA_V0
from .vmamba import halve, norm, patches, stem

Mixer = Callable[[int], nn.Module]


def first_block(dim: int, mixer: nn.Module, drop: float) -> nn.Module:
    return PreNorm(dim, mixer, ConvFfn(dim, 2), drop, eps=1e-5)


class NormedBehind(nn.Module):
    """x + drop(mixer(norm1(x))), then x + drop(norm2(mlp(x))), over maps (B, H, W, C)"""

    def __init__(self, dim: int, mixer: nn.Module, drop: float = 0.0):
        super().__init__()
        self.norm1, self.mixer = LayerNorm(dim, eps=1e-5), mixer
        self.mlp, self.norm2, self.drop = ConvFfn(dim), LayerNorm(dim, eps=1e-5), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.mixer(self.norm1(x)))
        return x + self.drop(self.norm2(self.mlp(x)))


V1: Mixer = partial(FirstMultiScaleScan, expand=2.0)
V3 = dict(stem=stem, down=halve, block=NormedBehind, multiple=1)


@family(
    about(
        title="Multi-Scale VMamba: Hierarchy in Hierarchy Visual State Space Model",
        arxiv="2405.14174",
        licence="none stated",
        multiple=4,
    ),
    msvmamba_nano=dict(depths=(1, 2, 5, 2), dims=(48, 96, 192, 384)),
    msvmamba_micro=dict(depths=(1, 2, 5, 2), dims=(64, 128, 256, 512)),
    msvmamba_tiny=dict(depths=(1, 2, 9, 2), dims=(96, 192, 384, 768)),
    msvmambav3_tiny=dict(depths=(2, 2, 9, 2), dims=(96, 192, 384, 768), mixer=MultiScaleScan, **V3),
    msvmambav3_small=dict(depths=(2, 3, 20, 2), dims=(96, 192, 384, 768), mixer=MultiScaleScan, **V3),
    msvmambav3_base=dict(depths=(2, 4, 18, 2), dims=(128, 256, 512, 1024), mixer=GatedMultiScaleScan, **V3),
)
def msvmamba(
    depths: Sequence[int],
    dims: Sequence[int],
    mixer: Mixer | Sequence[Mixer] = V1,
    stem: Callable[[int, int], nn.Module] = patches,
    down: Callable[[int, int], nn.Module] = MapMerging,
    block: Callable[..., nn.Module] = first_block,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`mixer` is one for all stages, or one for each."""
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    mixers = mixer if isinstance(mixer, Sequence) else [mixer] * len(dims)
    downs = [None, *(down(*pair) for pair in pairwise(dims))]
    stages = [
        LastBlocks([block(dims[i], mixers[i](dims[i]), next(drop)) for _ in range(depths[i])], downs[i])
        for i in range(len(dims))
    ]
    head = Classifier(dims[-1], num_classes, before=norm(dims[-1]), drop=drop_rate)
    net = Network(Pyramid(stem(in_chans, dims[0]), stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, linear=trunc02)
    return net


BLOCK = """
    layers.{s}.blocks.{b}.op.conv2d_b1       -> backbone.stages.{s}.blocks.{b}.mixer.coarse
    layers.{s}.blocks.{b}.op.se.fc.0         -> backbone.stages.{s}.blocks.{b}.mixer.excite.reduce
    layers.{s}.blocks.{b}.op.se.fc.2         -> backbone.stages.{s}.blocks.{b}.mixer.excite.expand
    layers.{s}.blocks.{b}.convFFN.linear{i}  -> backbone.stages.{s}.blocks.{b}.mlp.fc{i}
    layers.{s}.blocks.{b}.convFFN.dwc        -> backbone.stages.{s}.blocks.{b}.mlp.dwconv
    layers.{s}.blocks.{b}.norm               -> backbone.stages.{s}.blocks.{b}.norm1
    layers.{s}.blocks.{b}.norm2              -> backbone.stages.{s}.blocks.{b}.norm2
"""
AUTHORS, AUTHORS_V3 = BLOCK + VMAMBA_V0, BLOCK + VMAMBA
