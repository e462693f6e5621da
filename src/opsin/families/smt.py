"""SMT: convolutions weigh values below, attention does above, in turns between. Lin et al., 2023, arXiv:2307.08579

Scale-aware modulation in the first two stages, modulation and attention by turns in the third, attention in the last.
Every stage ends in a norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice, pairwise
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, PreNorm, Pyramid
from ..layers import LayerNorm, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..mixers.local_attention import LocalValueAttention
from ..mixers.modulation import ScaleAwareModulation
from ..registry import about, family
from ..width import Width, each
from .efficientnet import initialise_by_groups
from .pvt_v2 import NormedStage, patches

Make = Callable[[int], nn.Module]


class ResidualDepthwiseMlp(nn.Module):
    """fc2(gelu(y + dwconv(y))), y = fc1(x), over maps (B, H, W, C)"""

    def __init__(self, dim: int, ratio: float):
        super().__init__()
        hidden = Width(int(dim * ratio), "hidden")
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), GELU(), nn.Linear(hidden, dim)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc1(x).movedim(-1, 1)
        return self.fc2(self.act(y + self.dwconv(y)).movedim(1, -1))


def modulate(heads: int) -> Make:
    return partial(ScaleAwareModulation, heads=heads)


def attend(heads: int) -> Make:
    return partial(LocalValueAttention, heads=heads)


MIXERS = ((modulate(4),), (modulate(4),), (modulate(4), attend(8)), (attend(16),))
FINE: dict[str, Any] = dict(dims=(64, 128, 256, 512))


@family(
    about(title="Scale-Aware Modulation Meet Transformer", arxiv="2307.08579", licence="MIT"),
    smt_t=dict(depths=(2, 2, 8, 1), **FINE),
    smt_s=dict(depths=(3, 4, 18, 2), **FINE),
    smt_b=dict(depths=(4, 6, 28, 2), **FINE, ratios=(8, 6, 4, 2), first=7),
    smt_l=dict(depths=(4, 6, 28, 4), dims=(96, 192, 384, 768), ratios=(8, 6, 4, 2), first=7),
)
def smt(
    depths: Sequence[int],
    dims: Sequence[int],
    ratios: Sequence[float] = (4, 4, 4, 2),
    first: int = 3,
    mixers: Sequence[Sequence[Make]] = MIXERS,
    scale: float | None = None,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`mixers` of each stage take turns; `first` is the stem's kernel, `scale` the first value of gains on branches."""
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    hidden = Width(dims[0], "stem")
    stem = [nn.Conv2d(in_chans, hidden, first, 2, first // 2, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()]
    halve = nn.Sequential(nn.Conv2d(hidden, dims[0], 2, 2), LayerNorm(dims[0], dim=1, eps=1e-5))
    downs = [halve, *[patches(a, b, 3, 2) for a, b in pairwise(dims)]]
    stages = []
    for i, depth in enumerate(depths):
        mixing = islice(cycle(mixers[i]), depth)
        mlps = (ResidualDepthwiseMlp(dims[i], ratios[i]) for _ in range(depth))
        blocks = [PreNorm(dims[i], mixer(dims[i]), mlp, next(drop), scale=scale) for mixer, mlp in zip(mixing, mlps)]
        stages.append(NormedStage(blocks, downs[i], LayerNorm(dims[i])))
    backbone = Pyramid(nn.Sequential(*stem), stages, [hidden, *dims], [2, 4, 8, 16, 32])
    net = Network(backbone, Classifier(dims[-1], num_classes, drop=drop_rate))
    initialise_by_groups(net)
    initialise(net, linear=trunc02)
    return net


BLOCK = """
    block{s}.{b}.attn.v              -> {to}.mixer.v
    block{s}.{b}.attn.local_conv_{i} -> {to}.mixer.convs.{i-1}
    block{s}.{b}.attn.proj0          -> {to}.mixer.mix.0
    block{s}.{b}.attn.bn             -> {to}.mixer.mix.1
    block{s}.{b}.attn.proj1          -> {to}.mixer.mix.3
    block{s}.{b}.attn.local_conv     -> {to}.mixer.dwconv
    block{s}.{b}.attn                -> {to}.mixer
    block{s}.{b}.mlp.dwconv.dwconv   -> {to}.mlp.dwconv
    block{s}.{b}.mlp                 -> {to}.mlp
    block{s}.{b}.norm{i}             -> {to}.norm{i}
    block{s}.{b}.gamma_{i}           -> {to}.scale{i}.gamma
""".replace("{to}", "backbone.stages.{s-1}.blocks.{b}")
AUTHORS = (
    """
    patch_embed1.conv.3              -> backbone.stages.0.down.0
    patch_embed1.conv.{i}            -> backbone.stem.{i}
    patch_embed{s}.proj              -> backbone.stages.{s-1}.down.0
    patch_embed{s}.norm              -> backbone.stages.{s-1}.down.1
    norm{s}                          -> backbone.stages.{s-1}.norm
    head                             -> head.fc
"""
    + BLOCK
)
