"""Which parameters stay as they came."""

from __future__ import annotations

from typing import Any


def freeze(model: Any, stride: int) -> None:
    """Stop the gradient of the stem and of stages up to the last one whose map has at most this stride (0: of nothing).

    Only backbones that are stems and stages in a row have such a place; others are trained whole.
    """
    backbone: Any = getattr(model, "backbone", None)
    ends, strides = getattr(backbone, "ends", []), getattr(backbone, "strides", [])
    last = max((end for end, here in zip(ends, strides) if here <= stride), default=-1)
    if last >= 0:
        for part in (backbone.stem, *backbone.stages[:last]):
            part.requires_grad_(False)
