"""DSM: a pyramid that mixes in the cosine spectrum. Hu & Gao, 2023, arXiv:2309.06721

No code and no sizes of layers were published. This is a network after the paper's description: four stages, patches
that overlap, blocks of a dynamic spectrum and a pointwise pair. Its depths, widths and filters are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..blocks import Classifier, Network, Pyramid
from ..blocks.layouts import First
from ..blocks.prenorm import PreNorm
from ..blocks.stage import LastBlocks
from ..channels.mlp import Mlp
from ..layers import LayerNorm, ramp
from ..layers.init import initialise, trunc02
from ..layers.position import grid
from ..mixers.spectrum import DynamicSpectrum
from ..registry import about, family
from ..width import each


def patches(cin: int, cout: int, kernel: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(cin, cout, kernel, stride, kernel // 2), LayerNorm(cout, dim=1))


@family(
    about(title="Dynamic Spectrum Mixer for Visual Recognition", arxiv="2309.06721", licence="MIT"),
    dsm_t=dict(depths=(2, 2, 6, 2), dims=(64, 128, 320, 512)),
    dsm_s=dict(depths=(3, 4, 18, 3), dims=(64, 128, 320, 512)),
)
def dsm(
    depths: Sequence[int],
    dims: Sequence[int],
    filters: int = 4,
    ratio: float = 4.0,
    img_size: int | tuple[int, int] = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`filters` in each mixer, of the size that its maps have in images of `img_size`."""
    dims, drop, sides = each(*dims), ramp(drop_path_rate, sum(depths)), grid(img_size, 32)

    def block(i: int) -> nn.Module:
        rows, columns = (side * 2 ** (len(depths) - 1 - i) for side in sides)
        mixer = First(DynamicSpectrum(dims[i], filters, grid=(rows, columns)))
        return PreNorm(dims[i], mixer, Mlp(dims[i], ratio), next(drop), scale=1e-2)

    stages = [
        LastBlocks([block(i) for _ in range(depth)], patches(dims[i - 1], dims[i], 3, 2) if i else None)
        for i, depth in enumerate(depths)
    ]
    head = Classifier(dims[-1], num_classes, before=LayerNorm(dims[-1], dim=1), drop=drop_rate)
    net = Network(Pyramid(patches(in_chans, dims[0], 7, 4), stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, linear=trunc02)
    return net
