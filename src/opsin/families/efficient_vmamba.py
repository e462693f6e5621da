"""EfficientVMamba: scans that skip places beside convolutions, then inverted residuals. arXiv:2403.09977

Pei, Huang & Xu, 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..blocks.inverted import Inverted
from ..blocks.stage import LastBlocks
from ..layers import DropPath, LayerNorm, SqueezeExcite, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..mixers.atrous_scan import ES2D
from ..registry import about, family
from ..width import Width, each
from .swin import PatchMerging
from .vmamba import HEAD, norm, patches, scan


class MapMerging(PatchMerging):
    """Swin's merging of 2x2 neighbours, over maps (B, C, H, W)"""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Weigh(nn.Module):
    """x * sigmoid(expand(gelu(reduce(mean(norm(x)))))), over maps (B, H, W, C)"""

    def __init__(self, dim: int, ratio: int = 8):
        super().__init__()
        hidden = Width(dim // ratio, "squeezed")
        self.norm = LayerNorm(dim, eps=1e-5)
        self.reduce, self.expand = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(self.norm(x).mean((1, 2), keepdim=True))
        return x * self.expand(F.gelu(y)).sigmoid()


class ScanAndConv(nn.Module):
    """x + drop(weigh(mixer(y)) + weigh(conv(y))), y = norm(x), over maps (B, H, W, C); both are weighed alike"""

    def __init__(self, dim: int, drop: float = 0.0, mixer: Callable[[int], nn.Module] = ES2D):
        super().__init__()
        self.norm, self.mixer, self.weigh, self.drop = LayerNorm(dim, eps=1e-5), mixer(dim), Weigh(dim), DropPath(drop)
        self.conv = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim), nn.BatchNorm2d(dim), GELU(), nn.Conv2d(dim, dim, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        near = self.conv(y.movedim(-1, 1)).movedim(1, -1)
        return x + self.drop(self.weigh(self.mixer(y)) + self.weigh(near))


def gate(hidden: int, cin: int) -> nn.Module:
    return SqueezeExcite(hidden, hidden // 8)


@family(
    about(
        title="EfficientVMamba: Atrous Selective Scan for Light Weight Visual Mamba",
        arxiv="2403.09977",
        licence="none stated",
        multiple=4,
    ),
    efficient_vmamba_tiny=dict(dims=(48, 96, 192, 384)),
    efficient_vmamba_small=dict(dims=(64, 128, 256, 512)),
    efficient_vmamba_base=dict(dims=(96, 192, 384, 768), depths=(2, 2, 9, 2)),
)
def efficient_vmamba(
    dims: Sequence[int],
    depths: Sequence[int] = (2, 2, 4, 2),
    block: Callable[..., nn.Module] = ScanAndConv,
    down: Callable[[int, int], nn.Module] = MapMerging,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    downs = [None, *(down(*pair) for pair in pairwise(dims))]
    late = partial(Inverted, kernel=3, ratio=4, gate=gate)
    stages = [
        *(LastBlocks([block(dims[i], next(drop)) for _ in range(depths[i])], downs[i]) for i in (0, 1)),
        *(Stage([late(dims[i], dims[i], drop=next(drop)) for _ in range(depths[i])], downs[i]) for i in (2, 3)),
    ]
    head = Classifier(dims[-1], num_classes, before=norm(dims[-1]), drop=drop_rate)
    net = Network(Pyramid(patches(in_chans, dims[0]), stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, linear=trunc02)
    return net


def authors(depths: Sequence[int]) -> str:
    """The authors' names; in the third stage the merging is numbered behind the blocks."""
    behind, at = depths[2] + 2, "layers.{s}.blocks.{b}"
    return (
        HEAD
        + scan(f"{at}.op", "backbone.stages.{s}.blocks.{b}.mixer")
        + f"""
    patch_embed.0                   -> backbone.stem.0
    patch_embed.2                   -> backbone.stem.1
    {at}.conv_branch                -> backbone.stages.{{s}}.blocks.{{b}}.conv
    {at}.se.norm                    -> backbone.stages.{{s}}.blocks.{{b}}.weigh.norm
    {at}.se.global_reduce           -> backbone.stages.{{s}}.blocks.{{b}}.weigh.reduce
    {at}.se.channel_select          -> backbone.stages.{{s}}.blocks.{{b}}.weigh.expand
    {at}.norm                       -> backbone.stages.{{s}}.blocks.{{b}}.norm
    layers.{{s}}.downsample.reduction -> backbone.stages.{{s+1}}.down.proj
    layers.{{s}}.downsample           -> backbone.stages.{{s+1}}.down
    layers.2.{behind}.reduction        -> backbone.stages.3.down.proj
    layers.2.{behind}                  -> backbone.stages.3.down
"""
        + "".join(
            f"""
    layers.{{s}}.{{b}}.{theirs}.0         -> backbone.stages.{{s}}.blocks.{{b-1}}.{ours}.conv
    layers.{{s}}.{{b}}.{theirs}.1         -> backbone.stages.{{s}}.blocks.{{b-1}}.{ours}.norm
"""
            for theirs, ours in (("conv_pw", "expand"), ("conv_dw", "dwconv"), ("conv_pw2", "project"))
        )
        + """
    layers.{s}.{b}.se.conv_reduce   -> backbone.stages.{s}.blocks.{b-1}.gate.reduce
    layers.{s}.{b}.se.conv_expand   -> backbone.stages.{s}.blocks.{b-1}.gate.expand
"""
    )


AUTHORS, AUTHORS_BASE = authors((2, 2, 4, 2)), authors((2, 2, 9, 2))
