"""Batch normalisation in layer normalisation's place, reached by degrees. Guo et al., 2024, arXiv:2405.11582

Batch statistics are constants at inference, so that such a norm melts into the linear layer behind it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .norm import LayerNorm


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of channels that are last: (..., C), statistics over all other dimensions"""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).view_as(x)


class RepBN(nn.Module):
    """norm(x) + alpha x over (..., C), alpha one learned number; `merged` into one batch normalisation"""

    def __init__(self, dim: int):
        super().__init__()
        self.norm, self.alpha = TokenBatchNorm(dim), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) + self.alpha * x

    def merged(self) -> TokenBatchNorm:
        """The same function in eval mode: gain + alpha sigma, bias + alpha mean."""
        norm: Any = self.norm
        out = TokenBatchNorm(norm.num_features, norm.eps).to(norm.weight).eval()
        out.load_state_dict(norm.state_dict())
        with torch.no_grad():
            out.weight.copy_(norm.weight + self.alpha * (norm.running_var + norm.eps).sqrt())
            out.bias.copy_(norm.bias + self.alpha * norm.running_mean)
        return out


class ProgressiveNorm(nn.Module):
    """In training lambda layer(x) + (1 - lambda) batch(x), lambda falling from 1 to 0; in eval mode batch(x) alone

    lambda falls linearly with `progress`, which `layers.advance` sets to the share of training done: from `begin` on,
    until `begin + over`. Before `begin` no batch statistics are gathered.
    """

    progress = 0.0

    def __init__(self, dim: int, eps: float = 1e-5, begin: float = 0.0, over: float = 0.2):
        super().__init__()
        self.layer, self.batch, self.begin, self.over = LayerNorm(dim, eps=eps), RepBN(dim), begin, over

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.batch(x)
        if self.progress < self.begin:
            return self.layer(x)
        share = max(0.0, 1 - (self.progress - self.begin) / self.over)
        return share * self.layer(x) + (1 - share) * self.batch(x)

    def merged(self) -> TokenBatchNorm:
        return self.batch.merged()


def absorbed(norm: nn.BatchNorm1d, linear: nn.Linear) -> nn.Linear:
    """linear(norm(x)) in eval mode as one linear layer."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    out = nn.Linear(linear.in_features, linear.out_features).to(linear.weight).eval()
    gain = norm.weight / (var + norm.eps).sqrt()
    bias = linear.weight @ (norm.bias - mean * gain)
    with torch.no_grad():
        out.weight.copy_(linear.weight * gain)
        out.bias.copy_(bias if linear.bias is None else bias + linear.bias)
    return out
