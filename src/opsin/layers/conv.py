"""Convolution, normalisation and activation as one part; padding as TensorFlow does it."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

Act = Callable[[], nn.Module]


def relu() -> nn.Module:
    return nn.ReLU(inplace=True)  # safe behind a norm, whose output nobody else holds


def relu6() -> nn.Module:
    return nn.ReLU6(inplace=True)


def silu() -> nn.Module:
    return nn.SiLU(inplace=True)


def hard_swish() -> nn.Module:
    return nn.Hardswish(inplace=True)


class SameConv2d(nn.Conv2d):
    """Padded so that the output has ceil(input / stride) pixels, the odd pixel below and right, as in TensorFlow."""

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        (kh, kw), (sh, sw), (dh, dw) = self.kernel_size, self.stride, self.dilation
        y, z = short(h, kh, sh, dh), short(w, kw, sw, dw)
        if y % 2 == 0 and z % 2 == 0:
            return F.conv2d(x, self.weight, self.bias, self.stride, (y // 2, z // 2), self.dilation, self.groups)
        x = F.pad(x, (z // 2, z - z // 2, y // 2, y - y // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def short(n: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """Pixels that a side of n lacks for an output of ceil(n / stride)."""
    return max((-(n // -stride) - 1) * stride + (kernel - 1) * dilation + 1 - n, 0)


class SamePad2d(nn.Module):
    """The padding of `SameConv2d` alone"""

    def __init__(self, kernel: int, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        y, z = (short(n, self.kernel, self.stride) for n in x.shape[-2:])
        return F.pad(x, (z // 2, z - z // 2, y // 2, y - y // 2))


class Gain2d(nn.Conv2d):
    """A depthwise convolution of one pixel, as the product that it is: as convolutions, channels go one by one"""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.stride
        y = x[:, :, ::rows, ::columns] * self.weight.view(1, -1, 1, 1)
        return y if self.bias is None else y + self.bias.view(1, -1, 1, 1)


class Conv(nn.Sequential):
    """act(norm(conv(x)))"""

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        act: Act | None = relu,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        conv: type[nn.Conv2d] = nn.Conv2d,
    ):
        super().__init__()
        padding = 0 if conv is SameConv2d else kernel // 2
        self.conv = conv(cin, cout, kernel, stride, padding, groups=groups, bias=False)
        self.norm = norm(cout)
        if act:
            self.act = act()
