"""Activations that torch has no module for."""

from torch import Tensor, nn


class QuickGelu(nn.Module):
    """x * sigmoid(1.702 x), an approximation of GELU. Hendrycks & Gimpel, 2016, arXiv:1606.08415"""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1.702 * x).sigmoid()
