"""Structural re-parameterisation: branches that train side by side and run as one convolution. arXiv:2101.03697"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..width import same
from .conv import Conv, Gain2d
from .drop import DropPath

Model = TypeVar("Model", bound=nn.Module)


@runtime_checkable
class Mergeable(Protocol):
    """A module that knows a simpler one with the same output in eval mode."""

    def merged(self) -> nn.Module: ...


class ConvSum(nn.Module):
    """Convolutions of one kernel, one of a single pixel, and the input itself, each normalised, added up

    The 1x1 stands beside larger kernels, the input where its shape is kept. In eval mode the sum is one convolution.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        copies: int = 1,
        drop: float = 0.0,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ):
        super().__init__()
        self.convs = nn.ModuleList(Conv(cin, cout, kernel, stride, groups, act=None, norm=norm) for _ in range(copies))
        one = Gain2d if cin is cout is groups else nn.Conv2d
        self.point = Conv(cin, cout, 1, stride, groups, act=None, norm=norm, conv=one) if kernel > 1 else None
        self.identity = norm(cout) if stride == 1 and same(cin, cout) else None
        self.drop = DropPath(drop)

    def branches(self) -> list[Any]:
        return [*self.convs, self.point] if self.point else [*self.convs]

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.branches()
        y = first(x)
        for branch in others:
            y += branch(x)  # a norm's output, which its gradient does not need
        y = self.drop(y)
        return y + self.identity(x) if self.identity else y

    def merged(self) -> nn.Module:
        """One convolution with a bias."""
        main: Any = self.convs[0].conv
        kernel, bias = torch.zeros_like(main.weight), main.weight.new_zeros(len(main.weight))
        parts = [(branch.conv.weight, branch.norm) for branch in self.branches()]
        if self.identity:
            parts.append((dirac(main), self.identity))
        for weight, n in parts:
            w, b = fuse_conv_bn_weights(weight, None, n.running_mean, n.running_var, n.eps, n.weight, n.bias)
            margin = (kernel.shape[-1] - w.shape[-1]) // 2
            kernel, bias = kernel + F.pad(w, (margin,) * 4), bias + b
        return like(main, kernel, bias)


def fused(conv: nn.Conv2d, norm: Any) -> nn.Conv2d:
    """norm(conv(x)) in eval mode as one convolution with a bias."""
    w, b = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return like(conv, w, b)


def like(conv: Any, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution of the same form with these weights."""
    out = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    )
    out.weight, out.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return out


class ConvNorm(Conv):
    """norm(conv(x)), one convolution when `merged`"""

    def __init__(self, cin: int, cout: int, kernel: int = 3, stride: int = 1, groups: int = 1):
        super().__init__(cin, cout, kernel, stride, groups, act=None)

    def merged(self) -> nn.Conv2d:
        return fused(self.conv, self.norm)


class PairConv(nn.Module):
    """large(x) + small(x), a grouped convolution beside one of 3x3, each normalised; one convolution when `merged`"""

    def __init__(self, cin: int, cout: int, kernel: int = 7, stride: int = 1, groups: int = 1, small: int = 3):
        super().__init__()
        self.large, self.small = (ConvNorm(cin, cout, k, stride, groups) for k in (kernel, small))

    def forward(self, x: Tensor) -> Tensor:
        return self.large(x) + self.small(x)

    def merged(self) -> nn.Conv2d:
        large, small = self.large.merged(), self.small.merged()
        assert large.bias is not None
        assert small.bias is not None
        margin = (large.kernel_size[0] - small.kernel_size[0]) // 2
        return like(large, large.weight + F.pad(small.weight, (margin,) * 4), large.bias + small.bias)


def dirac(conv: nn.Conv2d) -> Tensor:
    """The 1x1 kernel of a convolution's shape that hands every channel on."""
    return nn.init.dirac_(conv.weight.new_empty(*conv.weight.shape[:2], 1, 1), int(conv.groups))


def reparameterize(model: Model) -> Model:
    """A copy for inference in which every module that can be `merged` is: the same function with fewer operators.

    Exact in eval mode up to rounding.
    """
    model = copy.deepcopy(model).eval()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Mergeable):
                setattr(parent, name, child.merged())
    return model
