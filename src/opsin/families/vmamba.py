"""VMamba: state spaces that scan a map in four directions, in a pyramid. Liu et al., 2024, arXiv:2401.10166

The `s` forms are those of its last version, told by `expand` and depths; `v0` the first one, gated and without pairs of
linear layers; `m` has Mamba-2's scans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from torch import nn

from ..blocks import Classifier, Network, PreNorm, Pyramid
from ..blocks.prenorm import PreMix
from ..blocks.stage import LastBlocks, LastStage
from ..channels.mlp import Mlp
from ..layers import LayerNorm, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..mixers.cross_scan import CrossScan, DualCrossScan, GatedCrossScan, biased
from ..registry import about, family
from ..width import Width, each
from .swin import PatchMerging

Mixer = Callable[[int], nn.Module]
norm = partial(LayerNorm, dim=1, eps=1e-5)


def block(dim: int, mixer: nn.Module, drop: float) -> nn.Module:
    return PreNorm(dim, mixer, Mlp(dim), drop, eps=1e-5)


def stem(in_chans: int, dim: int) -> nn.Module:
    """norm(conv(gelu(norm(conv(x))))), both of stride 2"""
    hidden = Width(dim // 2, "stem")
    first, second = nn.Conv2d(in_chans, hidden, 3, 2, 1), nn.Conv2d(hidden, dim, 3, 2, 1)
    return nn.Sequential(first, norm(hidden), GELU(), second, norm(dim))


def halve(cin: int, cout: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(cin, cout, 3, 2, 1), norm(cout))


def patches(in_chans: int, dim: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_chans, dim, 4, 4), norm(dim))


S1 = partial(CrossScan, states=1, expand=1.0)
S2 = partial(CrossScan, states=1, expand=2.0)
M2 = partial(DualCrossScan, states=64, act=GELU)
V0 = partial(GatedCrossScan, states=16, expand=2.0, conv=biased)


@family(
    about(title="VMamba: Visual State Space Model", arxiv="2401.10166", licence="MIT"),
    vmamba_tiny_s1l8=dict(depths=(2, 2, 8, 2), mixer=S1),
    vmamba_small_s1l20=dict(depths=(2, 2, 20, 2), mixer=S1),
    vmamba_base_s1l20=dict(depths=(2, 2, 20, 2), dims=(128, 256, 512, 1024), mixer=S1),
    vmamba_tiny_s2l5=dict(depths=(2, 2, 5, 2), mixer=S2),
    vmamba_small_s2l15=dict(depths=(2, 2, 15, 2), mixer=S2),
    vmamba_base_s2l15=dict(depths=(2, 2, 15, 2), dims=(128, 256, 512, 1024), mixer=S2),
    vmamba_tiny_m2=dict(depths=(2, 2, 4, 2), mixer=M2),
    vmamba_small_m2=dict(depths=(2, 2, 12, 2), mixer=M2),
    vmamba_base_m2=dict(depths=(2, 2, 12, 2), dims=(128, 256, 512, 1024), mixer=M2),
)
def vmamba(
    depths: Sequence[int],
    mixer: Mixer,
    dims: Sequence[int] = (96, 192, 384, 768),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    downs = [None, *(halve(*pair) for pair in pairwise(dims))]
    stages = [
        LastBlocks([block(dim, mixer(dim), next(drop)) for _ in range(depth)], down)
        for dim, depth, down in zip(dims, depths, downs, strict=True)
    ]
    head = Classifier(dims[-1], num_classes, before=norm(dims[-1]), drop=drop_rate)
    net = Network(Pyramid(stem(in_chans, dims[0]), stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, linear=trunc02)
    return net


@family(
    about(title="VMamba: Visual State Space Model", arxiv="2401.10166", licence="MIT", multiple=4),
    vmamba_tiny_v0=dict(depths=(2, 2, 9, 2)),
    vmamba_small_v0=dict(depths=(2, 2, 27, 2)),
    vmamba_base_v0=dict(depths=(2, 2, 27, 2), dims=(128, 256, 512, 1024)),
)
def vmamba_v0(
    depths: Sequence[int],
    dims: Sequence[int] = (96, 192, 384, 768),
    mixer: Mixer = V0,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    downs = [None, *(PatchMerging(*pair) for pair in pairwise(dims))]
    stages = [
        LastStage([PreMix(LayerNorm(dim, eps=1e-5), mixer(dim), next(drop)) for _ in range(depth)], down)
        for dim, depth, down in zip(dims, depths, downs, strict=True)
    ]
    head = Classifier(dims[-1], num_classes, before=norm(dims[-1]), drop=drop_rate)
    net = Network(Pyramid(patches(in_chans, dims[0]), stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, linear=trunc02)
    return net


def scan(theirs: str, ours: str) -> str:
    """Rules for the authors' scan."""
    return f"""
    {theirs}.in_proj          -> {ours}.proj
    {theirs}.conv2d.1         -> {ours}.conv
    {theirs}.conv2d           -> {ours}.conv
    {theirs}.x_proj_weight    -> {ours}.spaces.read
    {theirs}.dt_projs_weight  -> {ours}.spaces.dt
    {theirs}.dt_projs_bias    -> {ours}.spaces.dt_bias
    {theirs}.A_logs           -> {ours}.spaces.log_decay
    {theirs}.Ds               -> {ours}.spaces.skip
    {theirs}.out_norm         -> {ours}.norm
    {theirs}.out_proj         -> {ours}.out
"""


HEAD = """
    classifier.norm                      -> head.before
    classifier.head                      -> head.fc
"""
AUTHORS = (
    scan("layers.{s}.blocks.{b}.op", "backbone.stages.{s}.blocks.{b}.mixer")
    + HEAD
    + """
    patch_embed.0                        -> backbone.stem.0
    patch_embed.2                        -> backbone.stem.1
    patch_embed.5                        -> backbone.stem.3
    patch_embed.7                        -> backbone.stem.4
    layers.{s}.downsample.1              -> backbone.stages.{s+1}.down.0
    layers.{s}.downsample.3              -> backbone.stages.{s+1}.down.1
    layers.{s}.blocks.{b}.norm           -> backbone.stages.{s}.blocks.{b}.norm1
    layers.{s}.blocks.{b}                -> backbone.stages.{s}.blocks.{b}
"""
)
AUTHORS_V0 = (
    scan("layers.{s}.blocks.{b}.op", "backbone.stages.{s}.blocks.{b}.mixer")
    + HEAD
    + """
    patch_embed.0                        -> backbone.stem.0
    patch_embed.2                        -> backbone.stem.1
    layers.{s}.downsample.reduction      -> backbone.stages.{s+1}.down.proj
    layers.{s}.downsample.norm           -> backbone.stages.{s+1}.down.norm
    layers.{s}.blocks.{b}.norm           -> backbone.stages.{s}.blocks.{b}.norm
"""
)
