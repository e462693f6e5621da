"""A large depthwise kernel that trains beside dilated small ones. Ding et al., 2023, arXiv:2311.15599"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Of each large kernel the branches beside it: (kernel, dilation), none of which sees farther.
BRANCHES = {
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    7: ((5, 1), (3, 2), (3, 3)),
    5: ((3, 1), (3, 2)),
}


class DilatedSum(nn.Module):
    """sum of norm(dwconv(x)) over a kernel and its dilated branches, maps (B, C, H, W); one convolution when merged"""

    def __init__(self, dim: int, kernel: int = 13):
        super().__init__()
        if kernel not in BRANCHES:
            raise ValueError(f"no branches are known for kernel {kernel}: take one of {', '.join(map(str, BRANCHES))}")
        self.large = part(dim, kernel, 1)
        self.beside = nn.ModuleDict({f"k{k}d{d}": part(dim, k, d) for k, d in BRANCHES[kernel]})

    def forward(self, x: Tensor) -> Tensor:
        y = self.large(x)
        for branch in self.beside.values():
            y = y + branch(x)
        return y

    def merged(self) -> nn.Conv2d:
        """One convolution with a bias: a dilated kernel is a larger one with zeros in it."""
        self.eval()
        out, *others = [fuse_conv_bn_eval(p.conv, p.norm) for p in (self.large, *self.beside.values())]
        for conv in others:
            kernel = spread(conv.weight, conv.dilation[0])
            margin = (out.kernel_size[0] - kernel.shape[-1]) // 2
            out.weight.data += F.pad(kernel, (margin,) * 4)
            out.bias.data += conv.bias.data
        return out


def part(dim: int, kernel: int, dilation: int) -> Any:
    padding = dilation * (kernel - 1) // 2
    conv = nn.Conv2d(dim, dim, kernel, padding=padding, dilation=dilation, groups=dim, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(dim)))


def spread(weight: Tensor, dilation: int) -> Tensor:
    """A kernel (O, I, k, k) with dilation - 1 zeros between its values."""
    side = dilation * (weight.shape[-1] - 1) + 1
    out = torch.zeros(*weight.shape[:2], side, side, dtype=weight.dtype, device=weight.device)
    out[..., ::dilation, ::dilation] = weight.detach()
    return out
