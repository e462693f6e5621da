"""SMPNet: large kernels that moving points draw. Kim & Park, 2023, arXiv:2304.02330

Blocks of a large and a small depthwise kernel and blocks of a wide pointwise pair take turns, as in RepLKNet. In
inference `layers.reparam.reparameterize` leaves one plain convolution of both kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..blocks import Classifier, Network, Pyramid, Stage
from ..layers import Conv, DropPath, ramp
from ..layers.act import GELU
from ..layers.init import initialise, trunc02
from ..mixers.smpconv import SMPConv
from ..registry import about, family
from ..width import Width, each


class LargeAndSmall(nn.Module):
    """norm(smpconv(x)) + norm(dwconv(x)), the small kernel 5x5; one convolution when merged"""

    large: Any
    small: Any

    def __init__(self, dim: int, kernel: int, points: int):
        super().__init__()
        self.large = nn.Sequential(SMPConv(dim, kernel, points), nn.BatchNorm2d(dim))
        self.small = Conv(dim, dim, 5, groups=dim, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.large(x) + self.small(x)

    @torch.no_grad()
    def merged(self) -> nn.Conv2d:
        self.eval()
        conv, norm = self.large
        out, small = fuse_conv_bn_eval(conv.merged().eval(), norm), fuse_conv_bn_eval(self.small.conv, self.small.norm)
        margin = (out.kernel_size[0] - small.kernel_size[0]) // 2
        out.weight += F.pad(small.weight, (margin,) * 4)
        out.bias += small.bias
        return out


class SMPBlock(nn.Module):
    """x + drop(project(relu(mixer(expand(norm(x))))))"""

    def __init__(self, dim: int, kernel: int, points: int, ratio: float = 1.0, drop: float = 0.0):
        super().__init__()
        hidden = Width(int(dim * ratio), "hidden")
        self.norm, self.expand = nn.BatchNorm2d(dim), Conv(dim, hidden, 1)
        self.mixer, self.act = LargeAndSmall(hidden, kernel, points), nn.ReLU()
        self.project, self.drop = Conv(hidden, dim, 1, act=None), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.project(self.act(self.mixer(self.expand(self.norm(x))))))


class PointwiseBlock(nn.Module):
    """x + drop(project(expand(norm(x))))"""

    def __init__(self, dim: int, ratio: float = 4.0, drop: float = 0.0):
        super().__init__()
        hidden = Width(int(dim * ratio), "hidden")
        self.norm, self.expand = nn.BatchNorm2d(dim), Conv(dim, hidden, 1, act=GELU)
        self.project, self.drop = Conv(hidden, dim, 1, act=None), DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.project(self.expand(self.norm(x))))


def halve(cin: int, cout: int) -> list[nn.Module]:
    return [Conv(cin, cout, 1), Conv(cout, cout, 3, 2, cout)]


@family(
    about(
        title="SMPConv: Self-moving Point Representations for Continuous Convolution",
        arxiv="2304.02330",
        licence="MIT",
    ),
    smpconv_t=dict(depths=(2, 2, 8, 2), dims=(96, 192, 384, 768)),
    smpconv_b=dict(depths=(2, 2, 20, 2), dims=(128, 256, 512, 1024)),
)
def smpnet(
    depths: Sequence[int],
    dims: Sequence[int],
    kernels: Sequence[int] = (31, 29, 27, 13),
    share: int = 4,
    ratios: tuple[float, float] = (1.0, 4.0),
    num_classes: int = 1000,
    in_chans: int = 3,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Kernels have a point for every `share` taps; `ratios` widen the mixing blocks and the pointwise ones."""
    dims, drop = each(*dims), ramp(drop_path_rate, sum(depths))
    first = Width(dims[0], "stem")
    stem = nn.Sequential(Conv(in_chans, first, 3, 2), Conv(first, first, 3, 1, first), *halve(first, dims[0]))

    def pair(i: int, rate: float) -> tuple[nn.Module, nn.Module]:
        points = kernels[i] ** 2 // share
        return SMPBlock(dims[i], kernels[i], points, ratios[0], rate), PointwiseBlock(dims[i], ratios[1], rate)

    stages = [
        Stage(
            [block for _ in range(depth) for block in pair(i, next(drop))],
            nn.Sequential(*halve(dims[i - 1], dims[i])) if i else None,
        )
        for i, depth in enumerate(depths)
    ]
    head = Classifier(dims[-1], num_classes, before=nn.BatchNorm2d(dims[-1]), drop=drop_rate)
    net = Network(Pyramid(stem, stages, [dims[0], *dims], [4, 4, 8, 16, 32]), head)
    initialise(net, conv=trunc02, linear=trunc02)
    return net


BODY = """
    stem.{i}.bn                                              -> backbone.stem.{i}.norm
    stem                                                     -> backbone.stem
    transitions.{s}.{i}.bn                                   -> backbone.stages.{s+1}.down.{i}.norm
    transitions.{s}                                          -> backbone.stages.{s+1}.down
    {at}.large_kernel.smp.conv.kernel_coord                  ->
    {at}.large_kernel.smp.conv.weight_coord                  -> {to}.mixer.large.0.coords
    {at}.large_kernel.smp.conv                               -> {to}.mixer.large.0
    {at}.large_kernel.smp.bn                                 -> {to}.mixer.large.1
    {at}.large_kernel.small_conv.bn                          -> {to}.mixer.small.norm
    {at}.large_kernel.small_conv                             -> {to}.mixer.small
    {at}.prelkb_bn                                           -> {to}.norm
    {at}.preffn_bn                                           -> {to}.norm
    {at}.pw1.bn                                              -> {to}.expand.norm
    {at}.pw1                                                 -> {to}.expand
    {at}.pw2.bn                                              -> {to}.project.norm
    {at}.pw2                                                 -> {to}.project
""".replace("{at}", "stages.{s}.blocks.{b}").replace("{to}", "backbone.stages.{s}.blocks.{b}")
AUTHORS = (
    BODY
    + """
    norm                                                     -> head.before
    head                                                     -> head.fc
"""
)
