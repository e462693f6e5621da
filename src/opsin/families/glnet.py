"""GLNet: convolution on pixels and attention between slots, side by side. Zhu et al., 2024, arXiv:2411.14429

Early stages cluster their pixels to 64 slots and let those attend; the last stage attends to all its pixels. The `stl`
forms have Swin's plain layout, the `tklb` ones a second classifier for every position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..blocks.classify import linear
from ..blocks.layouts import Flat, Last
from ..blocks.tokens import FirstToken
from ..layers import DropPath, LayerNorm, Scale, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..mixers.attention import Attention
from ..mixers.glmix import GLMix, LearnedSlots, PooledSlots
from ..registry import about, family
from ..width import Width, each

Make = Callable[[int], nn.Module]


class Near(nn.Module):
    """x + depthwise 3x3(x): positions"""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class PlaceMlp(nn.Module):
    """fc2(gelu(near(fc1(x))))"""

    def __init__(self, dim: int, ratio: float, near: Make):
        super().__init__()
        hidden = Width(int(dim * ratio), "hidden")
        self.fc1, self.near, self.act = nn.Conv2d(dim, hidden, 1), near(hidden), GELU()
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.near(self.fc1(x))))


class GLBlock(nn.Module):
    """x = z + drop(scale1(mixer(norm1(z), x))), z = near(x), then x + drop(scale2(mlp(norm2(x))))"""

    def __init__(self, dim: int, mixer: nn.Module, ratio: float, near: Make, scale: float | None, drop: float = 0.0):
        super().__init__()
        self.near, self.norm1, self.mixer = near(dim), LayerNorm(dim, dim=1), mixer
        self.norm2, self.mlp, self.drop = LayerNorm(dim, dim=1), PlaceMlp(dim, ratio, near), DropPath(drop)
        self.scale1 = nn.Identity() if scale is None else Scale(dim, scale, axis=1)
        self.scale2 = nn.Identity() if scale is None else Scale(dim, scale, axis=1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.near(x)
        x = z + self.drop(self.scale1(self.mixer(self.norm1(z), x)))
        return x + self.drop(self.scale2(self.mlp(self.norm2(x))))


def overlapping(cin: int, cout: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(cin, cout, 3, 2, 1), nn.BatchNorm2d(cout))


def twice(cin: int, cout: int) -> nn.Module:
    hidden = Width(cout // 2, "stem")
    return nn.Sequential(*overlapping(cin, hidden), GELU(), *overlapping(hidden, cout))


def patches(cin: int, cout: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(cin, cout, 4, 4), nn.BatchNorm2d(cout))


def halve(cin: int, cout: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(cin), nn.Conv2d(cin, cout, 2, 2))


def no_place(dim: int) -> nn.Module:
    return nn.Identity()


class MeanAndPlaces(nn.Module):
    """(B, C, H, W) -> (B, 1 + H W, C), the mean in front of all places"""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).mT
        return torch.cat([x.mean(1, keepdim=True), x], 1)


class WithPlaces(nn.Module):
    """fc(mean) + max over places of places(x) / 2"""

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.fc, self.places = linear(width, num_classes), linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x[:, 0]) + self.places(x[:, 1:]).amax(1) / 2


class PlaceClassifier(Classifier):
    """A classifier of the mean, helped by one of every place"""

    def __init__(self, dim: int, num_classes: int, before: nn.Module, drop: float = 0.0):
        super().__init__(dim, num_classes, before, MeanAndPlaces(), drop=drop)
        self.reset(num_classes)

    def vector(self, x: Tensor) -> Tensor:
        return super().vector(x)[:, 0]

    def reset(self, num_classes: int) -> None:
        self.fc = WithPlaces(self.width, num_classes) if num_classes else FirstToken()


G4 = dict(dims=(64, 128, 256, 512))
G9 = dict(dims=(96, 192, 384, 768))
G16 = dict(dims=(128, 256, 512, 1024), scale=1e-4)
STL: dict[str, Any] = dict(
    depths=(2, 2, 6, 2), dims=(96, 192, 384, 768), ratio=4, near=no_place, stem=patches, down=halve, every=(1, 1, 1, 0)
)


@family(
    about(
        title="Revisiting the Integration of Convolution and Attention for Vision Backbone",
        arxiv="2411.14429",
        licence="MIT",
    ),
    glnet_4g=dict(**G4),
    glnet_9g=dict(**G9),
    glnet_16g=dict(**G16),
    glnet_stl=dict(**STL),
    glnet_stl_paramslot=dict(**STL, first=LearnedSlots),
    glnet_4g_tklb=dict(**G4, head=PlaceClassifier),
    glnet_9g_tklb=dict(**G9, head=PlaceClassifier),
)
def glnet(
    dims: Sequence[int],
    depths: Sequence[int] = (4, 4, 18, 4),
    every: Sequence[int] = (1, 1, 2, 0),
    ratio: float | Sequence[float] = 3,
    size: int = 32,
    slots: int = 64,
    kernel: int = 5,
    scale: float | None = None,
    first: type[nn.Module] = PooledSlots,
    near: Make = Near,
    stem: Callable[[int, int], nn.Module] = twice,
    down: Callable[[int, int], nn.Module] = overlapping,
    head: Callable[..., nn.Module] = Classifier,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """In each stage `every` so many-th block has slots (all for 1, none for 0), the others attend; heads of `size`."""
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    ratios = [ratio] * len(dims) if isinstance(ratio, int | float) else list(ratio)

    def block(i: int, j: int) -> nn.Module:
        heads = dims[i] // size
        slotted = every[i] and j % every[i] == 0
        mixer = GLMix(dims[i], heads, slots, kernel, first) if slotted else Last(Flat(Attention(dims[i], heads)))
        return GLBlock(dims[i], mixer, ratios[i], near, scale, next(drop))

    stages = [
        Stage([block(i, j) for j in range(depth)], down(dims[i - 1], dims[i]) if i else None)
        for i, depth in enumerate(depths)
    ]
    backbone = Pyramid(stem(in_chans, dims[0]), stages, [dims[0], *dims], [4, 4, 8, 16, 32])
    net = Network(backbone, head(dims[-1], num_classes, before=nn.BatchNorm2d(dims[-1]), drop=drop_rate))
    initialise(net, linear=trunc02)
    return net


BLOCK = """
    {at}.pos_conv                     -> {ours}.near.conv
    {at}.slot_scale                   -> {ours}.mixer.scale
    {at}.init_slots                   -> {ours}.mixer.first.slots
    {at}.relation_mha.in_proj_weight  -> {ours}.mixer.attn.qkv.weight
    {at}.relation_mha.in_proj_bias    -> {ours}.mixer.attn.qkv.bias
    {at}.relation_mha.out_proj        -> {ours}.mixer.attn.proj
    {at}.feature_conv                 -> {ours}.mixer.local
    {at}.mha_op.in_proj_weight        -> {ours}.mixer.op.op.qkv.weight
    {at}.mha_op.in_proj_bias          -> {ours}.mixer.op.op.qkv.bias
    {at}.mha_op.out_proj              -> {ours}.mixer.op.op.proj
    {at}.mlp.0                        -> {ours}.mlp.fc1
    {at}.mlp.1                        -> {ours}.mlp.near.conv
    {at}.mlp.2                        -> {ours}.mlp.fc2
    {at}.mlp.3                        -> {ours}.mlp.fc2
    {at}.ls1                          -> {ours}.scale1
    {at}.ls2                          -> {ours}.scale2
    {at}                              -> {ours}
"""
BODY = (
    BLOCK.replace("{at}", "stages.{s}.blocks.{b}").replace("{ours}", "backbone.stages.{s}.blocks.{b}")
    + """
    downsample_layers.{s}             -> backbone.stages.{s}.down
    norm                              -> head.before
"""
)
STEM = """
    downsample_layers.0.{i}           -> backbone.stem.{i-1}
"""
AUTHORS = (
    STEM
    + BODY
    + """
    head                              -> head.fc
"""
)
AUTHORS_PLAIN = AUTHORS.replace("{i-1}", "{i}")
AUTHORS_LABELS = (
    STEM
    + BODY
    + """
    tklb_aux_head                     -> head.fc.places
    head                              -> head.fc.fc
"""
)
