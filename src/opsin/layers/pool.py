"""From a map to one vector an image."""

from torch import Tensor, nn


class GlobalAverage(nn.Module):
    """(B, C, H, W) -> (B, C), the mean over pixels"""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))
