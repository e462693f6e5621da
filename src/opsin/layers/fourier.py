"""Where a pixel stands, in waves of many lengths. Vaswani et al., 2017, arXiv:1706.03762; DETR's form for maps"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FourierPositions(nn.Module):
    """x + proj(waves of the rows and columns) over maps (B, C, H, W); any size, rows and columns in shares of it"""

    def __init__(self, dim: int, waves: int = 32, temperature: float = 10000.0):
        super().__init__()
        self.waves, self.temperature = waves, temperature
        self.proj = nn.Conv2d(2 * waves, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        y = self.along(h, x.device)[:, :, None].expand(-1, -1, w)
        z = self.along(w, x.device)[:, None].expand(-1, h, -1)
        return x + self.proj(torch.cat([y, z])[None].to(x.dtype))

    def along(self, n: int, device: torch.device) -> Tensor:
        """Sines and cosines by turns, (waves, n), in float32 whatever the network's type."""
        at = torch.arange(1, n + 1, dtype=torch.float32, device=device) / (n + 1e-6) * (2 * math.pi)
        i = torch.arange(self.waves, dtype=torch.float32, device=device)
        length = self.temperature ** (2 * torch.div(i, 2, rounding_mode="floor") / self.waves)
        at = at[:, None] / length
        return torch.stack([at[:, 0::2].sin(), at[:, 1::2].cos()], 2).flatten(1).T
