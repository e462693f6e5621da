"""EMOv2: one residual for attention and depthwise convolution, down to a million parameters. Zhang et al., 2024

arXiv:2412.06674. An inverted residual whose expansion may be attention, near and remote windows sharing queries, keys
and values (`hybrid`); the first version (arXiv:2301.01146) has the remote ones alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import Conv, DropPath, LayerNorm, Scale, ramp, silu
from ..layers.act import GELU
from ..layers.conv import Act
from ..layers.init import initialise, trunc02
from ..mixers.spanning import SpanningAttention, remote
from ..registry import about, family
from ..width import Width, each

Norm = Callable[[int], nn.Module]
batch: Norm = partial(nn.BatchNorm2d, eps=1e-6)
layer: Norm = partial(LayerNorm, dim=1)


class Expand(nn.Module):
    """act(conv(x)), from `dim` to `width` channels at each place"""

    def __init__(self, dim: int, width: int, act: Act):
        super().__init__()
        self.width = Width(width, "hidden")
        self.conv, self.act = nn.Conv2d(dim, self.width, 1), act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class Down(nn.Module):
    """scale(proj(dwconv(mixer(norm(x))))), of stride 2"""

    def __init__(self, cin: int, cout: int, mixer: Any, norm: Norm, kernel: int):
        super().__init__()
        self.norm, self.mixer = norm(cin), mixer
        self.dwconv = Conv(mixer.width, mixer.width, kernel, 2, mixer.width, silu, batch)
        self.proj, self.scale = nn.Conv2d(mixer.width, cout, 1, bias=False), Scale(cout, axis=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.proj(self.dwconv(self.mixer(self.norm(x)))))


class MobileBlock(nn.Module):
    """x + drop(scale(proj(y + dwconv(y)))), y = mixer(norm(x)) of more channels"""

    def __init__(self, dim: int, mixer: Any, norm: Norm, kernel: int, drop: float = 0.0):
        super().__init__()
        self.norm, self.mixer = norm(dim), mixer
        self.dwconv = Conv(mixer.width, mixer.width, kernel, 1, mixer.width, silu, batch)
        self.proj, self.scale = nn.Conv2d(mixer.width, dim, 1, bias=False), Scale(dim, axis=1)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mixer(self.norm(x))
        return x + self.drop(self.scale(self.proj(y + self.dwconv(y))))


def stem(in_chans: int, dim: int) -> nn.Module:
    hidden = Width(int(dim), "near")
    first = nn.Sequential(nn.Conv2d(in_chans, hidden, 3, 2, 1), batch(hidden), silu())
    return nn.Sequential(first, Conv(hidden, hidden, 3, 1, hidden, silu, batch), nn.Conv2d(hidden, dim, 1, bias=False))


def expand(dim: int, ratio: float, head_dim: int, window: int, act: Act) -> nn.Module:
    return Expand(dim, int(dim * ratio), act)


def hybrid(dim: int, ratio: float, head_dim: int, window: int, act: Act) -> nn.Module:
    return SpanningAttention(dim, head_dim, window, cout=int(dim * ratio), act=act)


def far(dim: int, ratio: float, head_dim: int, window: int, act: Act) -> nn.Module:
    return SpanningAttention(dim, head_dim, window, (remote,), int(dim * ratio), act)


SIZES: dict[str, dict[str, Any]] = {
    "1m": dict(depths=(2, 2, 8, 3), dims=(32, 48, 80, 180), ratios=(2, 2.5, 3, 3.5), head_dims=(16, 16, 20, 20)),
    "2m": dict(depths=(3, 3, 9, 3), dims=(32, 48, 120, 200), ratios=(2, 2.5, 3, 3.5), head_dims=(16, 16, 20, 20)),
    "5m": dict(depths=(3, 3, 9, 3), dims=(48, 72, 160, 288), ratios=(2, 3, 4, 4), head_dims=(16, 24, 32, 32)),
    "20m": dict(depths=(3, 3, 13, 3), dims=(64, 128, 320, 448), ratios=(2, 3, 4, 4), head_dims=(16, 32, 32, 32)),
    "50m": dict(depths=(5, 8, 20, 7), dims=(64, 128, 384, 512), ratios=(2, 3, 4, 4), head_dims=(16, 32, 32, 32)),
}
V1: dict[str, Any] = dict(
    mixers=(expand, expand, far, far),
    kernels=(3, 3, 5, 5),
    arxiv="2301.01146",
    title="Rethinking Mobile Block for Efficient Attention-based Models",
)


@family(
    about(title="EMOv2: Pushing 5M Vision Model Frontier", arxiv="2412.06674", licence="NONE"),
    **{f"emo_{size}": {**told, **V1} for size, told in SIZES.items() if size != "50m"},
    **{f"emo2_{size}_k5_hybrid": told for size, told in SIZES.items()},
    **{f"emo2_{size}_k5_hybrid_256": dict(**told, window=8, native=256) for size, told in SIZES.items()},
    **{f"emo2_{size}_k5_hybrid_512": dict(**told, window=8, native=512) for size, told in SIZES.items()},
)
def emov2(
    depths: Sequence[int],
    dims: Sequence[int],
    ratios: Sequence[float],
    head_dims: Sequence[int],
    mixers: Sequence[Callable[..., nn.Module]] = (expand, expand, hybrid, hybrid),
    norms: Sequence[Norm] = (batch, batch, layer, layer),
    acts: Sequence[Act] = (silu, silu, GELU, GELU),
    kernels: Sequence[int] = (5, 5, 5, 5),
    window: int | Sequence[int] = 7,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """All but `window`, which may be one for all, is told for each of four stages."""
    rates = list(ramp(drop_path_rate, sum(depths)))
    windows = [window] * 4 if isinstance(window, int) else window
    wide, stages = [Width(dims[0] // 2, "stem"), *each(*dims)], []
    for i, (ratio, norm, act) in enumerate(zip(ratios, norms, acts)):
        cin, dim, kernel = wide[i], wide[i + 1], kernels[i]
        down = Down(cin, dim, Expand(cin, int(cin * ratio * 2), act), norm, kernel)
        blocks = [
            MobileBlock(dim, mixers[i](dim, ratio, head_dims[i], windows[i], act), norm, kernel, rate)
            for rate in rates[sum(depths[:i]) + 1 : sum(depths[: i + 1])]
        ]
        stages.append(Stage(blocks, down))
    head = Classifier(wide[-1], num_classes, before=norms[-1](wide[-1]), drop=drop_rate)
    net = Network(Pyramid(stem(in_chans, wide[0]), stages, wide, [2, 4, 8, 16, 32]), head)
    initialise(net.head, linear=trunc02)
    return net


AUTHORS = """
    stage0.0.conv                   -> backbone.stem.0.0
    stage0.0.norm                   -> backbone.stem.0.1
    stage0.1                        -> backbone.stem.1
    stage0.2.conv                   -> backbone.stem.2
    stage{s}.0.norm.norm            -> backbone.stages.{s-1}.down.norm
    stage{s}.0.eops.0.net.conv      -> backbone.stages.{s-1}.down.mixer.conv
    stage{s}.0.conv_local           -> backbone.stages.{s-1}.down.dwconv
    stage{s}.0.proj.conv            -> backbone.stages.{s-1}.down.proj
    stage{s}.0.ls                   -> backbone.stages.{s-1}.down.scale
    stage{s}.0.norm                 -> backbone.stages.{s-1}.down.norm
    stage{s}.{b}.norm.norm          -> backbone.stages.{s-1}.blocks.{b-1}.norm
    stage{s}.{b}.eops.0.net.conv    -> backbone.stages.{s-1}.blocks.{b-1}.mixer.conv
    stage{s}.{b}.eops.0.qk.conv     -> backbone.stages.{s-1}.blocks.{b-1}.mixer.qk
    stage{s}.{b}.eops.0.v.conv      -> backbone.stages.{s-1}.blocks.{b-1}.mixer.v
    stage{s}.{b}.conv_local         -> backbone.stages.{s-1}.blocks.{b-1}.dwconv
    stage{s}.{b}.proj.conv          -> backbone.stages.{s-1}.blocks.{b-1}.proj
    stage{s}.{b}.ls                 -> backbone.stages.{s-1}.blocks.{b-1}.scale
    stage{s}.{b}.norm               -> backbone.stages.{s-1}.blocks.{b-1}.norm
    norm.norm                       -> head.before
    norm                            -> head.before
    head                            -> head.fc
"""
