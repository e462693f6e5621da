"""Heads that answer for every place of a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..registry import UnsupportedArgument
from .stage import Features

Layer = Callable[[int, int], nn.Module]  # from a map's width and the classes to what makes logits of it


def pointwise(width: int, num_classes: int) -> nn.Module:
    return nn.Conv2d(width, num_classes, 1)


class MapHead(nn.Module):
    """fc(drop(before(last map))): (B, num_classes, H, W), a 1x1 convolution or what `layer` makes

    `width` is what `fc` reads. `vector` is the mean over places.
    """

    taps: tuple[int, ...] = (-1,)

    def __init__(
        self,
        width: int,
        num_classes: int,
        before: nn.Module | None = None,
        layer: Layer = pointwise,
        drop: float = 0.0,
    ):
        super().__init__()
        self.width, self.layer = width, layer
        self.before, self.drop = before or nn.Identity(), nn.Dropout(drop)
        self.reset(num_classes)

    def unpooled(self, features: Features) -> Any:
        return features.maps[-1]

    def pooled(self, x: Any) -> Any:
        return self.before(x)

    def vector(self, x: Any) -> Tensor:
        """One vector (B, width) an image, from `unpooled` features."""
        return self.drop(self.pooled(x)).mean((2, 3))

    def forward(self, features: Features) -> Any:
        return self.fc(self.drop(self.pooled(self.unpooled(features))))

    def reset(self, num_classes: int) -> None:
        self.fc = self.layer(self.width, num_classes) if num_classes else nn.Identity()


class NoiseHead(MapHead):
    """fc(last map), every place becoming a patch of pixels: noise (B, channels, patch H, patch W)

    What such a network tells is settled by its images: `reset` to other classes is refused.
    """

    def __init__(self, width: int, channels: int, patch: int = 1, drop: float = 0.0):
        super().__init__(width, 0, drop=drop)
        self.fc = ToPixels(width, channels, patch)

    def reset(self, num_classes: int) -> None:
        if hasattr(self, "fc"):
            raise UnsupportedArgument("a network that predicts noise has no classifier: build it with num_classes=")
        super().reset(num_classes)


class ToPixels(nn.Linear):
    """(B, C, H, W) to (B, channels, patch H, patch W), each place read apart"""

    def __init__(self, width: int, channels: int, patch: int):
        super().__init__(width, patch * patch * channels)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        return unfolded(super().forward(x.movedim(1, -1)), self.patch).movedim(-1, 1)


def unfolded(x: Tensor, by: int) -> Tensor:
    """Channels (row, column, c) of (B, H, W, C) as `by` times as many rows and columns."""
    x = x.unflatten(-1, (by, by, -1)).permute(0, 1, 3, 2, 4, 5)
    return x.flatten(3, 4).flatten(1, 2)
