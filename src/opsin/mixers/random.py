"""A random matrix over places, drawn once and never learned. Yu et al., 2022, arXiv:2210.13452"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RandomMixing(nn.Module):
    """matrix @ x over the places of maps (B, H, W, C)

    The rows are softmaxes of uniform numbers. The matrix is a buffer: frozen, and saved with the weights. It belongs
    to a `grid` of rows and columns; for maps of another size it is resampled, and its rows made to sum to 1 again.
    """

    matrix: Tensor

    def __init__(self, dim: int, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        self.register_buffer("matrix", torch.rand(grid[0] * grid[1], grid[0] * grid[1]).softmax(1))

    def forward(self, x: Tensor) -> Tensor:
        grid = x.shape[1:3]
        matrix = self.matrix if tuple(grid) == self.grid else self.resampled(*grid)
        return (matrix @ x.flatten(1, 2)).unflatten(1, grid)

    def resampled(self, rows: int, columns: int) -> Tensor:
        m = self.matrix
        for _ in range(2):  # the places that are read, then those that are written
            m = F.interpolate(m.unflatten(1, self.grid)[None], (rows, columns), mode="bilinear")[0].flatten(1).T
        return m / m.sum(1, keepdim=True)
