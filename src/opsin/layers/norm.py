"""Normalisation over channels, wherever they are."""

import torch
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


class RMSNorm(nn.RMSNorm):
    """x / root mean square over channels, which are last (`dim=-1`) or second (`dim=1`). arXiv:1910.07467"""

    eps: float

    def __init__(self, width: int, dim: int = -1, eps: float = 1e-6):
        super().__init__(width, eps=eps)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(self.dim, -1)).movedim(-1, self.dim)


class StdNorm(RMSNorm):
    """x / standard deviation over channels; the mean stays"""

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(self.dim, -1)
        return (x * torch.rsqrt(x.var(-1, keepdim=True) + self.eps) * self.weight).movedim(-1, self.dim)


class GlobalResponseNorm(nn.Module):
    """x + bias + weight * x * (||x|| / mean_c ||x||), norms over the pixels; channels last. arXiv:2301.00808"""

    bias: nn.Parameter | None

    axes = {"weight": ("dim",), "bias": ("dim",)}

    def __init__(self, dim: int, eps: float = 1e-6, bias: bool = True):
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight, self.bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(dim=(1, 2), keepdim=True)
        y = x * (size / (size.mean(-1, keepdim=True) + self.eps))
        return x + (self.weight * y if self.bias is None else torch.addcmul(self.bias, self.weight, y))


class ImageNorm(nn.LayerNorm):
    """Over all places and channels of an image at once, a gain a channel; channels last. arXiv:2111.11418"""

    def __init__(self, width: int, eps: float = 1e-6, bias: bool = True):
        super().__init__(width, eps=eps, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x.movedim(-1, 1), 1, self.weight, self.bias, self.eps).movedim(1, -1)


class Flat(nn.LayerNorm):
    """(x - mean) / deviation over the last dimension's channels, with no parameters"""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__(width, eps=eps, elementwise_affine=False)
