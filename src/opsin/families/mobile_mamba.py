"""MobileMamba: far, near and untouched channels in three coarse stages. He et al., 2024, arXiv:2411.15941

The sizes differ in width and in the pixels that they are trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import Conv, DropPath, SqueezeExcite, ramp, relu
from ..layers.init import initialise, trunc02
from ..mixers.wavelet_scan import MultiReceptive
from ..registry import about, family, rounded
from ..width import Concat, Width
from .group_mamba import Taught


class Ffn(nn.Sequential):
    """fc2(relu(fc1(x))), both with norms"""

    def __init__(self, dim: int):
        hidden = Width(2 * dim, "hidden")
        super().__init__(Conv(dim, hidden, 1), Conv(hidden, dim, 1, act=None))


class Added(nn.Module):
    """x + branch(x)"""

    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def local(dim: int) -> nn.Module:
    """x <- x + f(x) for f = dwconv, ffn"""
    return nn.Sequential(Added(Conv(dim, dim, groups=dim, act=None)), Added(Ffn(dim)))


class MobileBlock(nn.Module):
    """x + drop(y), y what x becomes by x <- x + f(x) for f = dwconv, ffn, mixer, dwconv, ffn"""

    def __init__(self, dim: Concat, kernel: int, expand: float = 2.0, drop: float = 0.0):
        super().__init__()
        self.before, self.mixer, self.behind = local(dim), MultiReceptive(dim.parts, kernel, expand), local(dim)
        self.drop = DropPath(drop)
        for norm in (self.mixer.proj.norm, *(m.norm for part in (self.before, self.behind) for m in ends(part))):
            nn.init.zeros_(norm.weight)  # blocks start as identities

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        y = self.behind(y + self.mixer(y))
        return x + self.drop(y)


def ends(part: Any) -> tuple[Any, Any]:
    """The last convolutions of the two branches of a `local` part."""
    return part[0].branch, part[1].branch[1]


def merge(cin: int, cout: int) -> nn.Module:
    """conv(excite(dwconv(conv(x)))), the second of stride 2, between two local parts"""
    hidden = Width(4 * cin, "hidden")
    excite = SqueezeExcite(hidden, rounded(hidden / 4))
    convs = Conv(cin, hidden, 1), Conv(hidden, hidden, 3, 2, groups=hidden), excite, Conv(hidden, cout, 1, act=None)
    return nn.Sequential(local(cin), nn.Sequential(*convs), local(cout))


class NormedLinear(nn.Sequential):
    """fc(norm(x))"""

    def __init__(self, width: int, num_classes: int):
        super().__init__(nn.BatchNorm1d(width), nn.Linear(width, num_classes))


class TaughtPair(Taught):
    """The mean of two classifiers, each behind a norm of its own"""

    def __init__(self, width: int, num_classes: int):
        nn.Module.__init__(self)
        self.fc, self.distilled = NormedLinear(width, num_classes), NormedLinear(width, num_classes)


class NormedClassifier(Classifier):
    """fc(drop(mean of the map)), the norm part of `fc`"""

    def __init__(self, width: int, num_classes: int, drop: float = 0.0, made: Callable[..., nn.Module] = NormedLinear):
        super().__init__(width, 0, drop=drop)
        self.made = made
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        self.fc = self.made(self.width, num_classes) if num_classes else nn.Identity()


def split(dim: int, far: float, near: float) -> Concat:
    """Channels in those shares, the far ones a multiple of 16, the rest the third part if any are left."""
    first = (int(far * dim) + 8) // 16 * 16
    second = min(int(near * dim), dim - first)
    rest = dim - first - second
    return Concat(Width(first, "far"), Width(second, "near"), *([Width(rest, "rest")] if rest else []))


B = dict(dims=(200, 376, 448), depths=(2, 3, 2))


@family(
    about(title="MobileMamba: Lightweight Multi-Receptive Visual Mamba Network", arxiv="2411.15941", licence="MIT"),
    mobilemamba_t2=dict(dims=(144, 272, 368), native=192),
    mobilemamba_t4=dict(dims=(176, 368, 448), native=192),
    mobilemamba_s6=dict(dims=(192, 384, 448)),
    mobilemamba_b1=dict(**B, native=256),
    mobilemamba_b2=dict(**B, native=384),
    mobilemamba_b4=dict(**B, native=512),
)
def mobile_mamba(
    dims: Sequence[int],
    depths: Sequence[int] = (1, 2, 2),
    far: Sequence[float] = (0.8, 0.7, 0.6),
    near: Sequence[float] = (0.2, 0.2, 0.3),
    kernels: Sequence[int] = (7, 5, 3),
    expand: float = 2.0,
    made: Callable[..., nn.Module] = NormedLinear,
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """`far` and `near` are shares of the channels, `made` the classifier from its width and the classes."""
    widths = [split(*sizes) for sizes in zip(dims, far, near, strict=True)]
    drop = ramp(drop_path_rate, sum(depths))
    thin = [*(Width(widths[0] // n, "stem") for n in (8, 4, 2)), widths[0]]
    convs = [Conv(a, b, 3, 2, act=None if b is widths[0] else relu) for a, b in pairwise([in_chans, *thin])]
    downs = [None, *(merge(*pair) for pair in pairwise(widths))]
    stages = [
        Stage([MobileBlock(widths[i], kernels[i], expand, next(drop)) for _ in range(depth)], downs[i])
        for i, depth in enumerate(depths)
    ]
    head = NormedClassifier(widths[-1], num_classes, drop_rate, made)
    net = Network(Pyramid(nn.Sequential(*convs), stages, [widths[0], *widths], [16, 16, 32, 64]), head)
    initialise(net.head, linear=trunc02)
    return net


def part(theirs: str, ours: str) -> str:
    """Rules for the authors' convolution and norm."""
    return f"""
    {theirs}.c    -> {ours}.conv
    {theirs}.bn   -> {ours}.norm"""


def wavelet(theirs: str, ours: str) -> str:
    """Rules for the authors' scan with wavelets."""
    scan = f"{theirs}.global_atten"
    return (
        part(f"{scan}.in_proj", f"{ours}.scan.proj")
        + part(f"{scan}.out_proj", f"{ours}.scan.out")
        + f"""
    {scan}.conv2d                     -> {ours}.scan.conv
    {scan}.x_proj_weight              -> {ours}.scan.spaces.read
    {scan}.dt_projs_weight            -> {ours}.scan.spaces.dt
    {scan}.dt_projs_bias              -> {ours}.scan.spaces.dt_bias
    {scan}.A_logs                     -> {ours}.scan.spaces.log_decay
    {scan}.Ds                         -> {ours}.scan.spaces.skip
    {scan}.out_norm                   -> {ours}.scan.norm
    {theirs}.base_scale               -> {ours}.scale
    {theirs}.wavelet_convs            -> {ours}.convs
    {theirs}.wavelet_scale            -> {ours}.gains
    {theirs}.wt_filter                ->
    {theirs}.iwt_filter               ->
"""
    )


def block(theirs: str, ours: str) -> str:
    """Rules for the authors' block."""
    mixer, local = f"{theirs}.mixer.m.attn", f"{ours}.mixer.near"
    return (
        "".join(
            part(f"{theirs}.dw{i}.m", f"{ours}.{side}.0.branch")
            + part(f"{theirs}.ffn{i}.m.pw1", f"{ours}.{side}.1.branch.0")
            + part(f"{theirs}.ffn{i}.m.pw2", f"{ours}.{side}.1.branch.1")
            for i, side in enumerate(("before", "behind"))
        )
        + wavelet(f"{mixer}.global_op", f"{ours}.mixer.far")
        + f"""
    {mixer}.local_op.dwconv3x3        -> {local}.0.conv
    {mixer}.local_op.bn1              -> {local}.0.norm
    {mixer}.local_op.dwconv1x1        -> {local}.1.conv
    {mixer}.local_op.bn2              -> {local}.1.norm"""
        + part(f"{mixer}.proj.1", f"{ours}.mixer.proj")
        + "\n"
    )


def merging(stage: int) -> str:
    """Rules for the authors' change of resolution before stage 2 or 3."""
    theirs, ours = f"blocks{stage}", f"backbone.stages.{stage - 1}.down"
    locals_ = "".join(
        part(f"{theirs}.{i}.0.m", f"{ours}.{i}.0.branch")
        + part(f"{theirs}.{i}.1.m.pw1", f"{ours}.{i}.1.branch.0")
        + part(f"{theirs}.{i}.1.m.pw2", f"{ours}.{i}.1.branch.1")
        for i in (0, 2)
    )
    convs = "".join(part(f"{theirs}.1.conv{i}", f"{ours}.1.{at}") for i, at in ((1, 0), (2, 1), (3, 3)))
    return f"""{locals_}{convs}
    {theirs}.1.se.fc1                 -> {ours}.1.2.reduce
    {theirs}.1.se.fc2                 -> {ours}.1.2.expand
"""


AUTHORS = (
    merging(2)
    + merging(3)
    + "".join(part(f"patch_embed.{2 * i}", f"backbone.stem.{i}") for i in range(4))
    + block("blocks1.{b}", "backbone.stages.0.blocks.{b}")
    + block("blocks2.{b}", "backbone.stages.1.blocks.{b-3}")
    + block("blocks3.{b}", "backbone.stages.2.blocks.{b-3}")
    + """
    head.bn                           -> head.fc.0
    head.l                            -> head.fc.1
"""
)
