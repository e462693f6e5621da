"""Which parameters stay as they came."""

from __future__ import annotations

from typing import Any


def freeze(model: Any, stride: int) -> None:
    """Stop the gradient of the stem and of stages up to the last one whose map has at most this stride (0: of nothing).

    Only backbones that are stems and stages in a row have such a place; others are trained whole.
    """
    last = frozen(model, stride)
    if last >= 0:
        for part in (model.backbone.stem, *model.backbone.stages[:last]):
            part.requires_grad_(False)


def frozen(model: Any, stride: int) -> int:
    """How many stages `freeze` stops behind the stem; -1 where not even that."""
    backbone: Any = getattr(model, "backbone", None)
    ends, strides = getattr(backbone, "ends", []), getattr(backbone, "strides", [])
    return max((end for end, here in zip(ends, strides) if here <= stride), default=-1)
