"""Finer maps from a finished network: strides traded for dilation. Chen et al., 2017, arXiv:1706.05587"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import nn

from ..layers.conv import SameConv2d
from ..layers.downsample import Downsample
from .network import Network
from .stage import Pyramid


def dilate(net: Network, output_stride: int) -> None:
    """Keep every map at `output_stride` pixels a step or finer, with the same weights.

    A convolution that lost its stride keeps the dilation before it, those behind it see the pixels as far apart as
    they were trained to.
    """
    pyramid: Pyramid = net.backbone
    rate = 1
    for stage, before, after in strided(pyramid):
        if after <= output_stride:
            continue
        rate = dilate_stage(stage, rate, rate * after // before)
    pyramid.strides = [min(s, output_stride) for s in pyramid.strides]


def strided(pyramid: Pyramid) -> Iterator[tuple[nn.Module, int, int]]:
    """Each stage with the stride before it and behind it."""
    parts = [pyramid.stem, *pyramid.stages]
    ends = dict(zip(pyramid.ends, pyramid.strides))
    strides = [next(s for end, s in ends.items() if end >= i) for i in range(len(parts))]
    return ((stage, before, after) for stage, (before, after) in zip(pyramid.stages, pairwise(strides)))


def dilate_stage(stage: nn.Module, before: int, behind: int) -> int:
    rate = before
    for m in stage.modules():
        if isinstance(m, Downsample) and m.stride > 1:
            m.stride, rate = 1, behind
        elif isinstance(m, nn.Conv2d):
            strided = m.stride[0] > 1
            here, rate = (before, behind) if strided else (rate, rate)
            m.stride = (1, 1)
            spread(m, here)
    return behind


def spread(conv: nn.Conv2d, rate: int) -> None:
    """Give a convolution its dilation, and the padding that keeps the map's size."""
    if conv.kernel_size[0] > 1:
        conv.dilation = (rate, rate)
        if not isinstance(conv, SameConv2d):
            conv.padding = (rate * (conv.kernel_size[0] // 2), rate * (conv.kernel_size[1] // 2))
