"""Normalisation over channels, wherever they are."""

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Over channels: last in tokens (`dim=-1`), second in maps (`dim=1`). Ba et al., 2016, arXiv:1607.06450"""

    def __init__(self, width: int, dim: int = -1, eps: float = 1e-6, bias: bool = True):
        super().__init__(width, eps=eps, bias=bias)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        if self.dim == -1:
            return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        x = x.movedim(self.dim, -1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, self.dim)


class ImageNorm(nn.LayerNorm):
    """Over all places and channels of an image at once, a gain a channel; channels last. arXiv:2111.11418"""

    def __init__(self, width: int, eps: float = 1e-6, bias: bool = True):
        super().__init__(width, eps=eps, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x.movedim(-1, 1), 1, self.weight, self.bias, self.eps).movedim(1, -1)
