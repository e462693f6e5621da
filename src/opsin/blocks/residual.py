"""ResNet's residual blocks. He et al., 2015, arXiv:1512.03385"""

from __future__ import annotations

from torch import Tensor, nn

from ..layers import Conv, DropPath, relu
from ..width import Groups, Width, same


def shortcut(cin: int, cout: int, stride: int) -> nn.Module:
    """The input itself where its shape is kept, else a strided projection."""
    return nn.Identity() if stride == 1 and same(cin, cout) else Conv(cin, cout, 1, stride, act=None)


class Basic(nn.Module):
    """act(conv2(conv1(x)) + shortcut(x)), both 3x3"""

    def __init__(self, cin: int, cout: int, stride: int = 1, drop: float = 0.0):
        super().__init__()
        hidden = Width(cout, "hidden")
        self.conv1, self.conv2 = Conv(cin, hidden, 3, stride), Conv(hidden, cout, act=None)
        self.shortcut, self.drop, self.act = shortcut(cin, cout, stride), DropPath(drop), relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(self.conv2(self.conv1(x))) + self.shortcut(x))


class Bottleneck(nn.Module):
    """act(conv3(conv2(conv1(x))) + shortcut(x)): 1x1, 3x3, 1x1; the stride sits in the 3x3"""

    def __init__(self, cin: int, cout: int, stride: int = 1, hidden: int = 64, groups: int = 1, drop: float = 0.0):
        super().__init__()
        a, b, groups = inner(hidden, groups)
        self.conv1, self.conv2, self.conv3 = Conv(cin, a, 1), Conv(a, b, 3, stride, groups), Conv(b, cout, 1, act=None)
        self.shortcut, self.drop, self.act = shortcut(cin, cout, stride), DropPath(drop), relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(self.conv3(self.conv2(self.conv1(x)))) + self.shortcut(x))


def inner(hidden: int, groups: int) -> tuple[int, int, int]:
    """Widths before and behind a bottleneck's 3x3, and its groups: in ResNeXt whole groups live or die together."""
    if groups == 1:
        return Width(hidden, "reduced"), Width(hidden, "mixed"), 1
    groups = Width(groups, "groups")
    both = Groups(groups, hidden // groups)
    return both, both, groups
