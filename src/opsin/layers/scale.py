"""LayerScale: a learned gain a channel on a residual branch. Touvron et al., 2021, arXiv:2103.17239"""

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """gamma * x, channels in dimension `axis`"""

    axes = {"gamma": ("dim",)}
    no_decay = ("gamma",)

    def __init__(self, dim: int, init: float = 1e-6, axis: int = -1):
        super().__init__()
        self.dim, self.axis = dim, axis
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.gamma if self.axis == -1 else self.gamma[:, None, None])
