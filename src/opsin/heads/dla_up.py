"""DLA's decoder: iterative and hierarchical aggregation back to fine maps. Yu et al., 2017, arXiv:1707.06484"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..layers import Conv
from ..width import Concat, same


class Upsample(nn.ConvTranspose2d):
    """`factor` times as many rows and columns, channel by channel; learned, and bilinear at first"""

    def __init__(self, dim: int, factor: int):
        super().__init__(dim, dim, 2 * factor, factor, factor // 2, groups=dim, bias=False)
        line = 1 - (torch.arange(2 * factor) - factor + 0.5).abs() / factor
        with torch.no_grad():
            self.weight.copy_((line[:, None] * line).expand_as(self.weight))


class IdaUp(nn.Module):
    """x_0 = y_0, x_i = node_i([x_{i-1}, y_i]) of y_i = up_i(proj_i(map_i)): maps (B, C_i, H_i, W_i) to x_1, x_2, ...

    All y_i have `dim` channels and the first map's pixels; map_i has `factors[i]` times fewer a side.
    """

    def __init__(self, widths: Sequence[int], dim: int, factors: Sequence[int]):
        super().__init__()
        self.proj = nn.ModuleList(nn.Identity() if same(width, dim) else Conv(width, dim, 1) for width in widths)
        self.up = nn.ModuleList(nn.Identity() if factor == 1 else Upsample(dim, factor) for factor in factors)
        self.node = nn.ModuleList(Conv(Concat(dim, dim), dim) for _ in widths[1:])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        x, *others = (up(proj(m)) for m, proj, up in zip(maps, self.proj, self.up))
        out = []
        for node, y in zip(self.node, others):
            x = node(torch.cat([x, y], 1))
            out.append(x)
        return out


class DlaUp(nn.Module):
    """Maps (B, C_i, H_i, W_i), fine to coarse, to one (B, C_0, H_0, W_0): the coarsest two are aggregated first

    `widths` and `strides` are those of the maps, as a backbone tells them. Each step takes in one finer map and hands
    on all that it made, in that map's channels and pixels.

    Raises:
        ValueError: a single map, or strides that do not double.
    """

    def __init__(self, widths: Sequence[int], strides: Sequence[int]):
        super().__init__()
        if len(widths) < 2 or any(b != 2 * a for a, b in pairwise(strides)):
            raise ValueError(f"DLAUp reads two maps or more, each of twice the stride before, not {list(strides)}")
        here, at = list(widths), list(strides)
        steps: list[nn.Module] = []
        for j in reversed(range(len(here) - 1)):
            steps.append(IdaUp(here[j:], here[j], [stride // at[j] for stride in at[j:]]))
            here[j + 1 :], at[j + 1 :] = [here[j]] * len(here[j + 1 :]), [at[j]] * len(at[j + 1 :])
        self.steps, self.width, self.stride = nn.ModuleList(steps), widths[0], strides[0]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        maps = list(maps)
        for i, step in enumerate(self.steps, 2):
            maps[1 - i :] = step(maps[-i:])
        return maps[-1]


AUTHORS = """
    ida_{s}.proj_{i}.0   -> steps.{s}.proj.{i}.conv
    ida_{s}.proj_{i}.1   -> steps.{s}.proj.{i}.norm
    ida_{s}.up_{i}       -> steps.{s}.up.{i}
    ida_{s}.node_{i}.0   -> steps.{s}.node.{i-1}.conv
    ida_{s}.node_{i}.1   -> steps.{s}.node.{i-1}.norm
"""
AUTHORS_IDA = AUTHORS.replace("ida_{s}.", "").replace("steps.{s}.", "")
