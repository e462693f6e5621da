"""The learning rate as a function of the step alone."""

from __future__ import annotations

import math


def rate(step: int, total: int, warmup: float = 0.1, floor: float = 0.0) -> float:
    """Share of the highest rate at a step of `total`: a linear rise over the share `warmup` of the steps, then half a
    cosine down to `floor` (Loshchilov, Hutter: SGDR, arXiv:1608.03983)."""
    rise = round(warmup * total)
    if step < rise:
        return (step + 1) / (rise + 1)
    along = (step - rise) / max(1, total - 1 - rise)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))
