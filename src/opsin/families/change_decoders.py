"""ChangeMamba's decoders: maps of two dates in three arrangements for state spaces. Chen et al., arXiv:2404.03425"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Conv
from ..width import Concat, Width
from .vmamba import block

Mixer = Callable[[int], nn.Module]
WIDTH = 128


class Scanned(nn.Module):
    """block(conv(x)), over maps (B, C, H, W) to (B, dim, H, W)"""

    def __init__(self, cin: int, dim: int, mixer: Mixer):
        super().__init__()
        self.conv = nn.Conv2d(cin, dim, 1) if cin is not dim else nn.Identity()
        self.block = block(dim, mixer(dim), 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.conv(x).movedim(1, -1)).movedim(-1, 1)


class Smooth(nn.Module):
    """relu(x + conv2(conv1(x)))"""

    def __init__(self, dim: int):
        super().__init__()
        hidden = Width(dim, "hidden")
        self.conv1, self.conv2 = Conv(dim, hidden), Conv(hidden, dim, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(self.conv1(x)))


class Pointwise(nn.Sequential):
    """relu(norm(conv(x))), the convolution with a bias"""

    def __init__(self, cin: int, cout: int):
        super().__init__(nn.Conv2d(cin, cout, 1), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


def resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def interleaved(a: Tensor, b: Tensor) -> Tensor:
    """Columns of both maps in turn (B, C, H, 2 W)."""
    return torch.stack([a, b], -1).flatten(3)


class Exchange(nn.Module):
    """What three arrangements of two maps (B, C, H, W) tell, fused: (B, dim, H, W)"""

    def __init__(self, cin: int, dim: int, mixer: Mixer):
        super().__init__()
        a, b, c = (Width(WIDTH, name) for name in ("parallel", "cross", "sequence"))
        self.parallel, self.cross, self.sequence = (
            Scanned(n, w, mixer) for n, w in ((Concat(cin, cin), a), (cin, b), (cin, c))
        )
        self.fuse = Pointwise(Concat(a, b, b, c, c), dim)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        crossed, beside = self.cross(interleaved(a, b)), self.sequence(torch.cat([a, b], 3))
        made = [self.parallel(torch.cat([a, b], 1)), *crossed.unflatten(3, (-1, 2)).unbind(-1), *beside.chunk(2, 3)]
        return self.fuse(torch.cat(made, 1))


class ChangeDecoder(nn.Module):
    """From the maps of both dates to one (B, width, H / 4, W / 4), the coarsest first"""

    def __init__(self, dims: Sequence[int], mixer: Mixer):
        super().__init__()
        self.width = Width(WIDTH, "change")
        self.levels = nn.ModuleList(Exchange(dim, self.width, mixer) for dim in dims)
        self.smooth = nn.ModuleList(Smooth(self.width) for _ in range(3))

    def forward(self, pre: list[Tensor], post: list[Tensor]) -> Tensor:
        x = self.levels[3](pre[3], post[3])
        for i in (2, 1, 0):
            here = self.levels[i](pre[i], post[i])
            x = self.smooth[i](resized(x, here) + here)
        return x


class SemanticDecoder(nn.Module):
    """From the maps of one date to one (B, width, H / 4, W / 4), the coarsest first; `width` may be another's"""

    def __init__(self, dims: Sequence[int], mixer: Mixer, width: Width | None = None):
        super().__init__()
        dim = self.width = width or Width(WIDTH, "kinds")
        self.scans = nn.ModuleList([*(Scanned(dim, dim, mixer) for _ in range(3)), Scanned(dims[3], dim, mixer)])
        self.lateral = nn.ModuleList(Pointwise(cin, dim) for cin in dims[:3])
        self.smooth = nn.ModuleList(Smooth(dim) for _ in range(4))

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.scans[3](maps[3])
        for i in (2, 1, 0):
            here = self.lateral[i](maps[i])
            x = self.scans[i](self.smooth[i + 1](here + resized(x, here)))
        return self.smooth[0](x)
