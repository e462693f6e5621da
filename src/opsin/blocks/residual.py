"""ResNet's residual blocks. He et al., 2015, arXiv:1512.03385"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..layers import AverageDown, Conv, DropPath, relu
from ..width import Groups, Width, same

Gate = Callable[[int], nn.Module]  # weighs the channels that leave a branch
Shortcut = Callable[[int, int, int], nn.Module]  # of channels in, channels out, stride
Part = Callable[..., Conv]
Size = Callable[[int, str], int]  # a new width of so many channels


def shortcut(cin: int, cout: int, stride: int) -> nn.Module:
    """The input itself where its shape is kept, else a strided projection."""
    return nn.Identity() if stride == 1 and same(cin, cout) else Conv(cin, cout, 1, stride, act=None)


def averaged(cin: int, cout: int, stride: int) -> nn.Module:
    """ResNet-D's shortcut, which sees every pixel: a mean over the stride, then the projection. arXiv:1812.01187"""
    if stride == 1:
        return shortcut(cin, cout, stride)
    return nn.Sequential(AverageDown(stride), Conv(cin, cout, 1, act=None))


class Basic(nn.Module):
    """act(gate(conv2(conv1(x))) + shortcut(x)), both 3x3"""

    def __init__(
        self,
        cin: int,
        cout: int,
        stride: int = 1,
        drop: float = 0.0,
        gate: Gate | None = None,
        project: Shortcut = shortcut,
    ):
        super().__init__()
        hidden = Width(cout, "hidden")
        self.conv1, self.conv2 = Conv(cin, hidden, 3, stride), Conv(hidden, cout, act=None)
        self.gate, self.drop = gate(cout) if gate else nn.Identity(), DropPath(drop)
        self.shortcut, self.act = project(cin, cout, stride), relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(self.gate(self.conv2(self.conv1(x)))) + self.shortcut(x))


class Bottleneck(nn.Module):
    """act(gate(conv3(conv2(conv1(x)))) + shortcut(x)): 1x1, 3x3, 1x1; the stride sits in the 3x3

    `inner` are the widths before and behind the 3x3, and its groups.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        stride: int,
        inner: tuple[int, int, int],
        drop: float = 0.0,
        gate: Gate | None = None,
        project: Shortcut = shortcut,
        part: Part = Conv,
    ):
        super().__init__()
        a, b, groups = inner
        self.conv1, self.conv2, self.conv3 = part(cin, a, 1), part(a, b, 3, stride, groups), part(b, cout, 1, act=None)
        self.gate, self.drop = gate(cout) if gate else nn.Identity(), DropPath(drop)
        self.shortcut, self.act = project(cin, cout, stride), relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(self.gate(self.conv3(self.conv2(self.conv1(x))))) + self.shortcut(x))


def inner(hidden: int, groups: int = 1, size: Size = Width) -> tuple[int, int, int]:
    """Widths before and behind a bottleneck's 3x3, and its groups: in ResNeXt whole groups live or die together."""
    if groups == 1:
        return size(hidden, "reduced"), size(hidden, "mixed"), 1
    groups = Width(groups, "groups")
    both = Groups(groups, hidden // groups)
    return both, both, groups
