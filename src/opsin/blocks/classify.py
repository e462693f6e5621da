"""The classifier that ends a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..layers.pool import GlobalAverage
from ..width import Concat
from .stage import Features

Unpooled = Any  # what a head's `unpooled` hands to its `pooled`: a map, tokens, or the maps of several taps


def linear(width: int, num_classes: int) -> nn.Module:
    """The last layer; nothing for no classes."""
    return nn.Linear(width, num_classes) if num_classes else nn.Identity()


class Classifier(nn.Module):
    """fc(drop(after(pool(before(last map)))))

    `unpooled` and `pooled` are its first two steps, for whoever wants features; `width` is what `fc` reads, `reads`
    what the pool does, where `after` changes it.
    """

    taps: tuple[int, ...] = (-1,)

    def __init__(
        self,
        width: int,
        num_classes: int,
        before: nn.Module | None = None,
        pool: nn.Module | None = None,
        after: nn.Module | None = None,
        drop: float = 0.0,
        reads: int | None = None,
    ):
        super().__init__()
        self.width, self.reads = width, width if reads is None else reads
        self.before, self.pool, self.after = before or nn.Identity(), pool or GlobalAverage(), after or nn.Identity()
        self.drop = nn.Dropout(drop)
        self.fc = linear(width, num_classes)

    def unpooled(self, features: Features) -> Unpooled:
        return self.before(features.maps[-1])

    def pooled(self, x: Unpooled) -> Tensor:
        return self.after(self.pool(x))

    def vector(self, x: Unpooled) -> Tensor:
        """One vector (B, width) an image, from `unpooled` features."""
        return self.drop(self.pooled(x))

    def forward(self, features: Features) -> Tensor:
        return self.fc(self.drop(self.pooled(self.unpooled(features))))

    def reset(self, num_classes: int) -> None:
        self.fc = linear(self.width, num_classes)


class LevelClassifier(Classifier):
    """fc(drop([vector, mean and maximum of every map])): what early stages see counts too

    Early stages know texture, which is what networks trained on photographs can tell of other kinds of pictures.
    After Evci et al., 2022, arXiv:2201.03529. `last` is the head that it extends, `widths` are those of the taps.
    """

    def __init__(self, last: Classifier, widths: list[int], num_classes: int):
        super().__init__(Concat(last.width, *widths, *widths), num_classes)
        self.before, self.pool, self.after, self.drop = last.before, last.pool, last.after, last.drop
        self.taps = tuple(range(len(widths)))

    def unpooled(self, features: Features) -> list[Tensor]:
        """The maps of all taps, the last one behind the head's norm in front of them."""
        return [self.before(features.maps[-1]), *features.maps]

    def pooled(self, x: list[Tensor]) -> Tensor:
        last, *maps = x
        return torch.cat(
            [self.after(self.pool(last)), *[m.mean((2, 3)) for m in maps], *[m.amax((2, 3)) for m in maps]], 1
        )
