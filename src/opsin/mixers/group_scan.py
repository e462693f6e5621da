"""Four groups of channels, each scanned one way, and weighed by what all say. Shaker et al., 2024, arXiv:2407.13772"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import LayerNorm
from ..layers.scan_order import along_columns, along_rows, columns_back, rows_back
from ..width import Groups, Width
from .cross_scan import GatedCrossScan, biased

ROUTES = (along_rows, along_columns, rows_back, columns_back)


class GroupScan(nn.Module):
    """proj(norm(scale y t sigmoid(expand(relu(reduce(mean(t))))))), t = norm(x), y its groups' scans end to end

    Over maps (B, H, W, C), C four groups of neighbours. The same norm is used twice, `scale` is one number.
    """

    no_decay = ("scale",)

    def __init__(self, dim: Groups, states: int = 1, expand: float = 1.0, reduction: int = 16):
        super().__init__()
        hidden = Width(max(1, dim // reduction), "squeezed")
        make = partial(GatedCrossScan, dim.parts[1], states, expand, biased)
        self.scans = nn.ModuleList(make(order=order) for order in ROUTES)
        self.norm, self.proj = LayerNorm(dim, eps=1e-5), nn.Linear(dim, dim)
        self.reduce, self.expand = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        y = torch.cat([scan(part) for scan, part in zip(self.scans, x.chunk(4, -1))], -1)
        weights = self.expand(F.relu(self.reduce(x.mean((1, 2), keepdim=True)))).sigmoid()
        return self.proj(self.norm(y * self.scale * x * weights))
