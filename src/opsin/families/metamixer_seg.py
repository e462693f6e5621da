"""FFNet-Seg: FFNet's blocks with larger kernels and strips, for maps. Yun et al., 2024, arXiv:2406.02021

The classifier on top is the one that it is pre-trained with; `opsin.heads.ffnet.FFNetHead` tells pixels' classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..channels.ffnified import ConvMlp
from ..layers import LayerNorm, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..layers.reparam import ConvNorm
from ..layers.strips import StripSum
from ..mixers.ffnified import FfnifiedAttention
from ..registry import about, family
from ..width import Width, each
from .metamixer import MixerBlock, conv_norm


def entrance(cin: int, stem: int, dim: int) -> nn.Module:
    """To a quarter of the sides, in four steps"""
    first = Width(stem, "stem")
    half = ConvNorm(cin, first, 3, 2), GELU(), ConvNorm(first, first, 3), GELU()
    return nn.Sequential(*half, ConvNorm(first, dim, 3), ConvNorm(dim, dim, 3, 2))


def down(cin: int, cout: int) -> nn.Module:
    wide = Width(2 * cout, "down")
    return nn.Sequential(ConvNorm(cin, wide, 3, 2), GELU(), ConvNorm(wide, cout, 1))


@family(
    about(title="MetaMixer Is All You Need", arxiv="2406.02021", licence="Apache-2.0"),
    ffnet_seg=dict(depths=(3, 4, 18, 5), dims=(96, 192, 384, 768)),
)
def ffnet_seg(
    depths: Sequence[int],
    dims: Sequence[int],
    keys: Sequence[int] = (3, 3, 9, 9),
    values: Sequence[int] = (3, 3, 9, 9),
    ratios: Sequence[float] = (4, 4, 4, 4),
    stem: int = 64,
    scale: float | None = 1e-6,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`keys` and `values` are kernels of the mixers in each stage; those of the mlps are 3x3."""
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))

    def block(i: int) -> nn.Module:
        mixer = FfnifiedAttention(dims[i], keys[i], values[i], conv=StripSum)
        return MixerBlock(dims[i], mixer, ConvMlp(dims[i], 3, ratios[i]), nn.Identity(), scale, next(drop))

    downs = [None, *(down(a, b) for a, b in pairwise(dims))]
    stages = [Stage([block(i) for _ in range(n)], downs[i]) for i, n in enumerate(depths)]
    wide, width = Width(1024, "wide"), Width(1280, "features")
    before = nn.Sequential(ConvNorm(dims[-1], wide, 1), nn.Hardswish())
    after = nn.Sequential(nn.Linear(wide, width), LayerNorm(width), nn.Hardswish())
    head = Classifier(width, num_classes, before, after=after, drop=drop_rate, reads=wide)
    net = Network(Pyramid(entrance(in_chans, stem, dims[0]), stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, conv=trunc02, linear=trunc02)
    return net


def strip_rules(theirs: str, ours: str, kernel: int) -> str:
    """Rules for one StripSum."""
    names = ["conv1", *(["conv2"] if kernel > 3 else []), "strip_conv1", "strip_conv2"]
    return "".join(
        f"""
    {theirs}.{name}.c   -> {ours}.branches.{i}.0
    {theirs}.{name}.bn  -> {ours}.branches.{i}.1"""
        for i, name in enumerate(names)
    )


def mixer_rules(theirs: str, ours: str, kernels: tuple[int, int]) -> str:
    both = zip((("conv1", "keys"), ("conv2", "values")), kernels)
    return conv_norm(f"{theirs}.fc", f"{ours}.query") + "".join(
        strip_rules(f"{theirs}.{a}", f"{ours}.{b}", kernel) for (a, b), kernel in both
    )


def body(keys: Sequence[int] = (3, 3, 9, 9), values: Sequence[int] = (3, 3, 9, 9), at: str = "") -> str:
    """Rules for the backbone, of which the authors' names begin with `at`."""
    rules = "".join(conv_norm(f"{at}patch_embed.{i}", f"backbone.stem.{i}") for i in (0, 2, 4, 5))
    for i, kernels in enumerate(zip(keys, values)):
        theirs = f"{at}stages.{i}.{{b}}"
        ours = f"backbone.stages.{i}.blocks." + ("{b-1}" if i else "{b}")
        rules += "".join(conv_norm(f"{at}stages.{i}.0.proj.{k}", f"backbone.stages.{i}.down.{k}") for k in (0, 2))
        rules += mixer_rules(f"{theirs}.token_mixer.0.main", f"{ours}.mixer", kernels)
        rules += conv_norm(f"{theirs}.channel_mixer.main.conv", f"{ours}.mlp.dwconv")
        rules += f"""
    {theirs}.token_mixer.0.layer_scale -> {ours}.scale1.gamma
    {theirs}.channel_mixer.layer_scale -> {ours}.scale2.gamma
    {theirs}.channel_mixer.main        -> {ours}.mlp"""
    return rules


def head(at: str, to: str, kernel: int = 9) -> str:
    """Rules for the head of pixels' classes, of which the authors' names begin with `at` and ours with `to`."""
    theirs, ours = f"{at}head_blocks.{{b}}", f"{to}blocks.{{b}}"
    rules = mixer_rules(f"{theirs}.token_mixer.main", f"{ours}.mixer", (kernel, kernel))
    rules += strip_rules(f"{theirs}.channel_mixer.main.conv", f"{ours}.mlp.dwconv", kernel)
    parts = {"squeeze.0": "squeeze.0", "squeeze.2": "squeeze.2", "align.0": "align.0"}
    rules += "".join(conv_norm(f"{at}{a}", f"{to}{b}") for a, b in parts.items())
    return f"""{rules}
    {theirs}.channel_mixer.main -> {ours}.mlp
    {at}conv_seg                -> {to}fc
"""


AUTHORS = (
    body()
    + """
    head1.0.c   -> head.before.0.conv
    head1.0.bn  -> head.before.0.norm
    head2.0     -> head.after.0
    head2.1     -> head.after.1
    head2.3     -> head.fc
"""
)
