"""Two classifiers on one vector, one taught by labels and one by a teacher. Touvron et al., 2020, arXiv:2012.12877"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .classify import Classifier

Layer = Callable[[int, int], Any]  # from a vector's width and the classes to what makes logits


def normed(width: int, num_classes: int) -> nn.Module:
    """fc(norm(x))"""
    return nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(width), fc=nn.Linear(width, num_classes)))


class TwoHeads(nn.Module):
    """(labels(x) + teacher(x)) / 2; `both` gives each, for a loss that teaches them apart"""

    def __init__(self, width: int, num_classes: int, layer: Layer = nn.Linear):
        super().__init__()
        self.labels, self.teacher = layer(width, num_classes), layer(width, num_classes)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.labels(x), self.teacher(x)

    def forward(self, x: Tensor) -> Tensor:
        return (self.labels(x) + self.teacher(x)) / 2

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer, the mean of the two."""
        (w1, b1), (w2, b2) = folded(self.labels), folded(self.teacher)
        out = nn.Linear(w1.shape[1], len(w1))
        out.weight, out.bias = nn.Parameter((w1 + w2) / 2), nn.Parameter((b1 + b2) / 2)
        out.in_features, out.out_features = widest(self.labels).in_features, widest(self.labels).out_features
        return out


def widest(layer: Any) -> nn.Linear:
    return layer if isinstance(layer, nn.Linear) else layer.fc


def folded(layer: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear layer with the norm before it, if any."""
    fc = widest(layer)
    if fc is layer:
        return fc.weight, fc.bias
    norm = layer.norm
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    return fc.weight * gain, fc.bias + fc.weight @ (norm.bias - norm.running_mean * gain)


class TwoHeadClassifier(Classifier):
    """A classifier whose last layer is two of them"""

    def __init__(
        self, width: int, num_classes: int, layer: Layer = nn.Linear, before: nn.Module | None = None, drop: float = 0.0
    ):
        super().__init__(width, 0, before, drop=drop)
        self.layer = layer
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        self.fc = TwoHeads(self.width, num_classes, self.layer) if num_classes else nn.Identity()
