"""FFNet: query, key and value of attention kept, the softmax not. Yun et al., 2024, arXiv:2406.02021

Its mixer is "FFNified attention", two large depthwise kernels with a GELU between them; its other half a depthwise
convolution and a pointwise pair. Every norm melts into a convolution when the network is merged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..channels.ffnified import ConvMlp
from ..layers import DropPath, LayerNorm, Scale, SqueezeExcite, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..layers.reparam import ConvNorm, PairConv, dirac, like
from ..mixers.ffnified import FfnifiedAttention
from ..registry import about, family
from ..width import Groups, Width

Act = Callable[[], nn.Module]


class MixerBlock(nn.Module):
    """gate(x + drop(scale1(mixer(x)))), then x + drop(scale2(mlp(x)))"""

    def __init__(self, dim: int, mixer: nn.Module, mlp: nn.Module, gate: nn.Module, scale: float | None, drop: float):
        super().__init__()
        self.mixer, self.gate, self.mlp, self.drop = mixer, gate, mlp, DropPath(drop)
        self.scale1 = nn.Identity() if scale is None else Scale(dim, scale, axis=1)
        self.scale2 = nn.Identity() if scale is None else Scale(dim, scale, axis=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gate(x + self.drop(self.scale1(self.mixer(x))))
        return x + self.drop(self.scale2(self.mlp(x)))


class Mix(nn.Module):
    """x + conv(norm(x)), one pointwise convolution when `merged`"""

    def __init__(self, dim: int):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(dim), nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.norm(x))

    def merged(self) -> nn.Module:
        n: Any = self.norm
        gain = n.weight / (n.running_var + n.eps).sqrt()
        bias = self.conv.weight[..., 0, 0] @ (n.bias - n.running_mean * gain)
        return like(self.conv, self.conv.weight * gain[:, None, None] + dirac(self.conv), bias)


@family(
    about(title="MetaMixer Is All You Need", arxiv="2406.02021", licence="Apache-2.0", native=256),
    ffnet_1=dict(depths=(2, 2, 8, 2), dim=80, kernels=(3, 3, 3, 3)),
    ffnet_2=dict(depths=(3, 3, 15, 3), dim=88),
    ffnet_3=dict(depths=(4, 4, 22, 5), dim=96, scale=1e-6),
    ffnet_4=dict(depths=(4, 4, 27, 3), dim=128, scale=1e-6, native=384),
)
def ffnet(
    depths: Sequence[int],
    dim: int,
    keys: Sequence[int] = (3, 3, 7, 7),
    values: Sequence[int] = (3, 3, 7, 7),
    kernels: Sequence[int] = (7, 7, 7, 7),
    ratios: Sequence[float] = (3, 3, 3, 3),
    widen: Sequence[int] = (2, 2, 2),
    stem: int = 64,
    scale: float | None = None,
    gates: Sequence[bool] = (False, False, False, False),
    act: Act = GELU,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`keys` and `values` are kernels of the mixers, `kernels` of the mlps; every second block of a stage is gated.

    A stage has `widen` times the channels of the one before: each is read off one of its channels.
    """
    first, dims, drop = Width(stem, "stem"), [Width(dim, "dim")], ramp(drop_path_rate, sum(depths))
    for factor in widen:
        dims.append(Groups(dims[-1], factor))

    def block(i: int, j: int) -> nn.Module:
        mixer, mlp = FfnifiedAttention(dims[i], keys[i], values[i], act), ConvMlp(dims[i], kernels[i], ratios[i], act)
        gate = SqueezeExcite(dims[i], squeezed(dims[i])) if gates[i] and j % 2 == 0 else nn.Identity()
        return MixerBlock(dims[i], mixer, mlp, gate, scale, next(drop))

    def down(i: int) -> nn.Module:
        return nn.Sequential(PairConv(dims[i - 1], dims[i], 7, 2, dims[i - 1]), Mix(dims[i]))

    start = nn.Sequential(ConvNorm(in_chans, first, 3, 2), act(), ConvNorm(first, dims[0], 3, 2))
    stages = [Stage([block(i, j) for j in range(n)], down(i) if i else None) for i, n in enumerate(depths)]
    head = Classifier(dims[-1], num_classes, before=norm(dims[-1]), drop=drop_rate)
    net = Network(Pyramid(start, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, conv=trunc02, linear=trunc02)
    return net


def squeezed(dim: int) -> int:
    """A quarter of the channels, a multiple of eight and no less."""
    return max(8, (dim // 4 + 4) // 8 * 8)


channels = partial(LayerNorm, dim=1)


class Residual(nn.Module):
    """x + mixer(x), then x + mlp(x): blocks of pictures, whose statistics matter, with no norm or one in front"""

    def __init__(self, dim: int, ratio: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        hidden = Width(dim * ratio, "hidden")
        local = partial(nn.Conv2d, dim, dim, 3, padding=1, groups=dim)
        self.mixer = nn.Sequential(norm(dim), nn.Conv2d(dim, dim, 1), local(), GELU(), local())
        pair = nn.Conv2d(dim, hidden, 1), GELU(), nn.Conv2d(hidden, dim, 1)
        self.mlp = nn.Sequential(norm(dim), local(), *pair)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(x)
        return x + self.mlp(x)


class FFNetSR(nn.Module):
    """shuffle(proj_out(blocks(proj_in(x))) + copies of x): pictures (B, C, H, W) to (B, C, scale H, scale W)

    FFNet's form for super-resolution. The paper's networks double the sides with dim 96, of 48 blocks or, light, 36.
    """

    def __init__(
        self,
        scale: int = 2,
        dim: int = 96,
        depth: int = 48,
        ratio: int = 2,
        norm: Callable[[int], nn.Module] = nn.Identity,
        in_chans: int = 3,
    ):
        super().__init__()
        dim, self.scale = Width(dim, "dim"), scale
        self.proj_in = nn.Conv2d(in_chans, dim, 3, padding=1)
        self.blocks = nn.Sequential(*[Residual(dim, ratio, norm) for _ in range(depth)])
        self.proj_out = nn.Conv2d(dim, in_chans * scale**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj_out(self.blocks(self.proj_in(x))) + x.repeat_interleave(self.scale**2, 1)
        return torch.pixel_shuffle(y, self.scale)


def conv_norm(theirs: str, ours: str) -> str:
    return f"""
    {theirs}.c   -> {ours}.conv
    {theirs}.bn  -> {ours}.norm"""


def block_rules(theirs: str, ours: str) -> str:
    """Rules for a block; those of a merged network's, whose names are shorter, come last."""
    parts = {"token_mixer.0.main.fc": "mixer.query", "channel_mixer.main.conv": "mlp.dwconv"}
    pairs = {"token_mixer.0.main.conv1": "mixer.keys", "token_mixer.0.main.conv2": "mixer.values"}
    pairs |= {"channel_mixer.main.conv": "mlp.dwconv"}
    rules = [conv_norm(f"{theirs}.{a}", f"{ours}.{b}") for a, b in parts.items()]
    for a, b in pairs.items():
        sides = {"conv": "large", "conv1": "small"}
        rules += [conv_norm(f"{theirs}.{a}.{c}", f"{ours}.{b}.{d}") for c, d in sides.items()]
    return (
        "".join(rules)
        + "".join(
            f"""
    {theirs}.{a}  -> {ours}.{b}"""
            for a, b in {**pairs, **parts}.items()
        )
        + f"""
    {theirs}.token_mixer.0.layer_scale -> {ours}.scale1.gamma
    {theirs}.channel_mixer.layer_scale -> {ours}.scale2.gamma
    {theirs}.token_mixer.1.fc1   -> {ours}.gate.reduce
    {theirs}.token_mixer.1.fc2   -> {ours}.gate.expand
    {theirs}.channel_mixer.main  -> {ours}.mlp"""
    )


DOWN = "backbone.stages.{s}.down"
BODY = (
    "".join(conv_norm(f"patch_embed.{i}", f"backbone.stem.{i}") for i in (0, 2))
    + conv_norm("stages.{s}.0.proj.0.conv", f"{DOWN}.0.large")
    + conv_norm("stages.{s}.0.proj.0.conv1", f"{DOWN}.0.small")
    + f"""
    patch_embed                    -> backbone.stem
    stages.{{s}}.0.proj.1.conv.bn  -> {DOWN}.1.norm
    stages.{{s}}.0.proj.1.conv.c   -> {DOWN}.1.conv
    stages.{{s}}.0.proj            -> {DOWN}"""
    + block_rules("stages.0.{b}", "backbone.stages.0.blocks.{b}")
    + block_rules("stages.{s}.{b}", "backbone.stages.{s}.blocks.{b-1}")
)
AUTHORS = (
    BODY
    + """
    norm  -> head.before
    head  -> head.fc
"""
)
AUTHORS_SR = """
    proj                        -> proj_in
    body.{b}.token_mixer        -> blocks.{b}.mixer
    body.{b}.channel_mixer      -> blocks.{b}.mlp
    conv_bef_up                 -> proj_out
"""
AUTHORS_SR_BARE = """
    proj                        -> proj_in
    body.{b}.token_mixer.{i}    -> blocks.{b}.mixer.{i+1}
    body.{b}.channel_mixer.{i}  -> blocks.{b}.mlp.{i+1}
    conv_bef_up                 -> proj_out
"""
