"""MS-MLP: a ConvNeXt whose groups of channels look near and far. Zheng et al., 2022, arXiv:2202.06510

Groups are shifted by -2 to 2 pixels along rows and columns before small depthwise kernels, larger ones in later stages.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..channels.mlp import Mlp
from ..layers import DropPath, LayerNorm, Scale, ramp
from ..layers.init import initialise, trunc02
from ..mixers.mix_shift import MixShift, chunked
from ..registry import about, family

KERNELS = ((1, 1, 3, 5, 7), (1, 3, 3, 5, 7), (1, 5, 5, 5, 7), (1, 7, 7, 7, 7))
SHIFTS = (-2, -1, 0, 1, 2)


class MixShiftBlock(nn.Module):
    """x + drop(scale(mlp(norm(mixer(x))))), maps (B, C, H, W)"""

    def __init__(self, dim: int, kernels: Sequence[int], shifts: Sequence[int] = SHIFTS, drop: float = 0.0):
        super().__init__()
        self.mixer, self.norm, self.mlp = MixShift(dim, kernels, shifts), LayerNorm(dim), Mlp(dim)
        self.scale, self.drop = Scale(dim), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.scale(self.mlp(self.norm(self.mixer(x).movedim(1, -1))))
        return x + self.drop(y.movedim(-1, 1))


def patches(cin: int, cout: int, side: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(cin, cout, side, side), LayerNorm(cout, dim=1))


@family(
    about(
        title="Mixing and Shifting: Exploiting Global and Local Dependencies in Vision MLPs",
        arxiv="2202.06510",
        licence="MIT",
    ),
    ms_mlp_tiny=dict(dim=96, depths=(3, 3, 9, 3)),
    ms_mlp_small=dict(dim=96, depths=(3, 3, 27, 3)),
    ms_mlp_base=dict(dim=128, depths=(3, 3, 27, 3)),
)
def ms_mlp(
    dim: int,
    depths: Sequence[int],
    kernels: Sequence[Sequence[int]] = KERNELS,
    shifts: Sequence[int] = SHIFTS,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`kernels` of each stage's groups."""
    dims, drop = [chunked(dim * 2**i, len(shifts)) for i in range(len(depths))], ramp(drop_path_rate, sum(depths))
    stages = [
        Stage(
            [MixShiftBlock(dims[i], kernels[i], shifts, next(drop)) for _ in range(depth)],
            patches(dims[i - 1], dims[i], 2) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    backbone = Pyramid(patches(in_chans, dims[0], 4), stages, [dims[0], *dims], [4, 4, 8, 16, 32])
    net = Network(backbone, Classifier(dims[-1], num_classes, after=LayerNorm(dims[-1]), drop=drop_rate))
    initialise(net, linear=trunc02)
    return net


BLOCK = """
    {at}.dwconv_lr               -> {to}mixer.across
    {at}.dwconv_td               -> {to}mixer.along
    {at}.norm                    -> {to}norm
    {at}.pwconv{i}               -> {to}mlp.fc{i}
    {at}.gamma                   -> {to}scale.gamma
"""
AUTHORS = """
    patch_embed.proj             -> backbone.stem.0
    patch_embed.norm             -> backbone.stem.1
    layers.{s}.downsample.proj   -> backbone.stages.{s+1}.down.0
    layers.{s}.downsample.norm   -> backbone.stages.{s+1}.down.1
    norm                         -> head.after
    head                         -> head.fc
""" + BLOCK.replace("{at}", "layers.{s}.blocks.{b}").replace("{to}", "backbone.stages.{s}.blocks.{b}.")
