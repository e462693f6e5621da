"""Limits that a network must keep: milliseconds, megabytes, multiply-accumulates, parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import OpsinError

UNITS = {  # what a limit's unit measures, and how much of it
    "ms": ("latency_ms", 1.0),
    "s": ("latency_ms", 1e3),
    "mb": ("size_mb", 1.0),
    "gb": ("size_mb", 1e3),
    "kmacs": ("macs", 1e3),
    "mmacs": ("macs", 1e6),
    "gmacs": ("macs", 1e9),
    "kparams": ("params", 1e3),
    "mparams": ("params", 1e6),
}
SHOWN = {
    "latency_ms": ("latency", "ms", 1.0),
    "size_mb": ("file", "MB", 1.0),
    "macs": ("compute", "MMACs", 1e6),
    "params": ("parameters", "M", 1e6),
}


class LimitError(OpsinError, ValueError):
    """A limit that is not one, or that nothing can keep."""


@dataclass(frozen=True)
class Limit:
    """`most` of `what`: latency_ms, size_mb, macs or params."""

    text: str
    what: str
    most: float


def parse(texts: Iterable[str]) -> list[Limit]:
    """`["5ms", "20MB", "300MMACs"]` as limits.

    Raises:
        LimitError: text that is not a number and a unit.
    """
    return [one(text) for text in texts]


def one(text: str) -> Limit:
    hit = re.fullmatch(r"\s*([\d.]+(?:e[+-]?\d+)?)\s*([a-z]+)\s*", text.lower())
    try:
        number, unit = hit.groups() if hit else ("", "")
        what, scale = UNITS[unit]
        most = float(number) * scale
    except (KeyError, ValueError):
        units = "ms, s, MB, GB, MMACs, GMACs, Mparams"
        raise LimitError(f"{text!r} is no limit: write a number and a unit, such as 5ms ({units})") from None
    if most <= 0:
        raise LimitError(f"{text!r} leaves nothing: a limit must be above 0")
    return Limit(text, what, most)


def kept(limits: Iterable[Limit], cost: Mapping[str, float]) -> bool:
    return all(cost[limit.what] <= limit.most for limit in limits)


def over(limits: Iterable[Limit], cost: Mapping[str, float]) -> float:
    """How far a cost is beyond its tightest limit: 1 is on it, 2 is twice as much."""
    return max((cost[limit.what] / limit.most for limit in limits), default=0.0)


def shown(what: str, value: float) -> str:
    """`4.2 ms`, `18.9 MB`."""
    _, unit, scale = SHOWN[what]
    return f"{value / scale:.3g} {unit}"
