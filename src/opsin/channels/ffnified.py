"""A pointwise pair behind a depthwise convolution, of any form. Yun et al., 2024, arXiv:2406.02021"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from ..layers.act import GELU
from ..layers.reparam import ConvNorm, PairConv
from ..width import Width

LARGE = 7  # from this side on, a kernel trains with a 3x3 one at its side


def normed(dim: int, kernel: int) -> nn.Module:
    """A large kernel with a small one beside it, or one alone; normalised either way."""
    made = partial(PairConv if kernel >= LARGE else ConvNorm, kernel=kernel)
    return made(dim, dim, groups=dim)


class ConvMlp(nn.Module):
    """fc2(act(fc1(conv(x)))) over maps (B, C, H, W)"""

    def __init__(
        self,
        dim: int,
        kernel: int,
        ratio: float = 3.0,
        act: Callable[[], nn.Module] = GELU,
        conv: Callable[[int, int], nn.Module] = normed,
    ):
        super().__init__()
        hidden = Width(int(dim * ratio), "hidden")
        self.dwconv, self.act = conv(dim, kernel), act()
        self.fc1, self.fc2 = nn.Conv2d(dim, hidden, 1), nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(self.dwconv(x))))
