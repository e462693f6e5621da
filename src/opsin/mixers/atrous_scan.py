"""ES2D: four scans that share a map's places out among them. Pei et al., 2024, arXiv:2403.09977"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from ..layers.scan_order import atrous
from .cross_scan import GatedCrossScan, biased


class AtrousScan(GatedCrossScan):
    """`GatedCrossScan` in which each route skips every other row and column; odd sides are padded with zeros"""

    def scan(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[1:3]
        return super().scan(F.pad(x, (0, 0, 0, columns % 2, 0, rows % 2)))[:, :rows, :columns]


ES2D = partial(AtrousScan, states=16, expand=2.0, conv=biased, order=atrous)
