"""LeViT: a vision transformer for fast inference, in a convolutional net's shape. Graham et al., 2021, arXiv:2104.01136

Convolutions make the first tokens, attention shrinks the map, batch normalisation is everywhere: in eval mode each
linear layer and its norm are one product. Two classifiers, one trained by a teacher, are averaged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid
from ..blocks.stage import LastStage
from ..layers import Conv, DropPath, ramp
from ..layers.init import initialise, trunc02
from ..layers.linear_norm import LinearNorm
from ..mixers.levit import Act, LevitAttention, LevitDown
from ..registry import about, family
from ..width import Width, each
from .vit import Both


class LevitBlock(nn.Module):
    """x + drop(mixer(x)), then x + drop(mlp(x))"""

    def __init__(self, mixer: nn.Module, mlp: nn.Module, drop: float = 0.0):
        super().__init__()
        self.mixer, self.mlp, self.drop = mixer, mlp, DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.mixer(x))
        return x + self.drop(self.mlp(x))


class Shrink(nn.Module):
    """y + drop(mlp(y)), y = mixer(x), an attention that halves rows and columns"""

    def __init__(self, mixer: nn.Module, mlp: nn.Module, drop: float = 0.0):
        super().__init__()
        self.mixer, self.mlp, self.drop = mixer, mlp, DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mixer(x)
        return y + self.drop(self.mlp(y))


def normed_mlp(dim: int, ratio: float, act: Act) -> nn.Module:
    hidden = Width(int(dim * ratio), "hidden")
    fc2 = LinearNorm(hidden, dim)
    nn.init.zeros_(fc2.norm.weight)
    return nn.Sequential(OrderedDict(fc1=LinearNorm(dim, hidden), act=act(), fc2=fc2))


class TwoNorms(nn.Module):
    """(B, C) -> (B, 2, C), normalised for the labels' classifier and for the teacher's"""

    def __init__(self, dim: int):
        super().__init__()
        self.norm, self.distilled = nn.BatchNorm1d(dim), nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.norm(x), self.distilled(x)], 1)


class TwoClassifiers(Classifier):
    """The mean of two classifiers, each behind its own norm"""

    def __init__(self, dim: int, num_classes: int, drop: float = 0.0):
        super().__init__(dim, num_classes, after=TwoNorms(dim), drop=drop)
        self.reset(num_classes)

    def vector(self, x: Tensor) -> Tensor:
        return super().vector(x).mean(1)

    def reset(self, num_classes: int) -> None:
        self.fc = Both(self.width, num_classes)


def single(dim: int, num_classes: int, drop: float = 0.0) -> nn.Module:
    return Classifier(dim, num_classes, after=nn.BatchNorm1d(dim), drop=drop)


D128 = dict(dims=(128, 256, 384), key=16)
D256 = dict(dims=(256, 384, 512), heads=(4, 6, 8))
D384 = dict(dims=(384, 512, 768), heads=(6, 9, 12))
PLAIN = dict(act=nn.SiLU, head=single)
VARIANTS: dict[str, dict[str, Any]] = {
    "128s": dict(depths=(2, 3, 4), heads=(4, 6, 8), **D128),
    "128": dict(heads=(4, 8, 12), **D128),
    "192": dict(dims=(192, 288, 384), heads=(3, 5, 6)),
    "256": D256,
    "256d": dict(depths=(4, 8, 6), **D256, **PLAIN),
    "384": D384,
    "384_s8": dict(**D384, act=nn.SiLU, stride=8),
    "512": dict(dims=(512, 768, 1024), heads=(8, 12, 16), key=64, **PLAIN),
    "512d": dict(depths=(4, 8, 6), dims=(512, 640, 768), heads=(8, 10, 12), key=64, **PLAIN),
    "512_s8": dict(dims=(512, 640, 896), heads=(8, 10, 14), key=64, stride=8, **PLAIN),
}


@family(
    about(
        title="LeViT: a Vision Transformer in ConvNet's Clothing for Faster Inference",
        arxiv="2104.01136",
        licence="Apache-2.0",
    ),
    **{f"levit_{form}{size}": entry for form in ("", "conv_") for size, entry in VARIANTS.items()},
)
def levit(
    dims: Sequence[int],
    heads: Sequence[int],
    depths: Sequence[int] = (4, 4, 4),
    key: int = 32,
    stride: int = 16,
    act: Act = nn.Hardswish,
    head: Callable[..., nn.Module] = TwoClassifiers,
    img_size: int | tuple[int, int] = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Convolutions go down to `stride`; tables of distances are those of `img_size`, resampled for other sizes.

    The `conv` forms are the same networks: linear layers over pixels are convolutions of one pixel.
    """
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    sides = (img_size, img_size) if isinstance(img_size, int) else img_size
    grids = [(-(-sides[0] // s), -(-sides[1] // s)) for s in (stride, 2 * stride, 4 * stride)]

    def block(i: int) -> nn.Module:
        mixer = LevitAttention(dims[i], heads[i], key, 2.0, grids[i], act)
        return LevitBlock(mixer, normed_mlp(dims[i], 2.0, act), next(drop))

    def shrink(i: int) -> nn.Module:
        mixer = LevitDown(dims[i - 1], dims[i], dims[i - 1] // key, key, 4.0, grids[i - 1], act)
        return Shrink(mixer, normed_mlp(dims[i], 2.0, act), drop_path_rate)

    halvings = stride.bit_length() - 1
    thin = [Width(dims[0] // 2**n, "stem") for n in range(halvings - 1, 0, -1)]
    *first, last = pairwise([in_chans, *thin, dims[0]])
    stem = nn.Sequential(*[Conv(a, b, 3, 2, act=act) for a, b in first], Conv(*last, 3, 2, act=None))
    stages = [LastStage([block(i) for _ in range(n)], shrink(i) if i else None) for i, n in enumerate(depths)]
    backbone = Pyramid(stem, stages, [dims[0], *dims], [stride, stride, 2 * stride, 4 * stride])
    net = Network(backbone, head(dims[-1], num_classes, drop_rate))
    initialise(net, linear=trunc02)
    return net


def normed(theirs: str, ours: str) -> str:
    """Rules for a linear layer and its norm."""
    return f"""
    {theirs}.linear -> {ours}.linear
    {theirs}.bn     -> {ours}.norm"""


def mixing(theirs: str, ours: str, attention: str) -> str:
    """Rules for an attention, called `attention` there, and the pair of linear layers behind it."""
    parts = {"q.ln": "q", "kv": "kv", "qkv": "qkv", "proj.ln": "proj"}
    rules = [normed(f"{theirs}.{attention}.{a}", f"{ours}.mixer.{b}") for a, b in parts.items()]
    rules += [normed(f"{theirs}.mlp.ln{i}", f"{ours}.mlp.fc{i}") for i in (1, 2)]
    return f"""
    {theirs}.{attention}.attention_biases -> {ours}.mixer.bias.table""" + "".join(rules)


BODY = (
    """
    stem.conv{i}.linear -> backbone.stem.{i-1}.conv
    stem.conv{i}.bn     -> backbone.stem.{i-1}.norm"""
    + mixing("stages.{s}.downsample", "backbone.stages.{s}.down", "attn_downsample")
    + mixing("stages.{s}.blocks.{b}", "backbone.stages.{s}.blocks.{b}", "attn")
)
TIMM = (
    BODY
    + """
    head.bn             -> head.after
    head.linear         -> head.fc
"""
)
TIMM_DISTILLED = (
    BODY
    + """
    head.bn             -> head.after.norm
    head_dist.bn        -> head.after.distilled
    head.linear         -> head.fc.fc
    head_dist.linear    -> head.fc.distilled
"""
)
