"""Conditions on the facts of networks, as a user writes them: `<6M`, `>=1.5G`, `3M..6M`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import OpsinError

SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "": operator.eq,
    "=": operator.eq,
}
NUMBER = r"([\d.]+)\s*([kmg]?)"


class ConditionError(OpsinError, ValueError):
    """Text that is no condition on a number."""


def condition(text: str) -> Callable[[float], bool]:
    """`"<6M"`, `"224"` or `"3M..6M"` (both ends included) as a test of a number.

    Raises:
        ConditionError: anything else; the message shows how to write one.
    """
    plain = text.strip().lower()
    try:
        if hit := re.fullmatch(rf"{NUMBER}\s*\.\.\s*{NUMBER}", plain):
            low, high = float(hit[1]) * SCALES[hit[2]], float(hit[3]) * SCALES[hit[4]]
            return lambda value: low <= value <= high
        if hit := re.fullmatch(rf"([<>]?=?)\s*{NUMBER}", plain):
            compare, bound = COMPARE[hit[1]], float(hit[2]) * SCALES[hit[3]]
            return lambda value: compare(value, bound)
    except ValueError:  # "1.2.3"
        pass
    raise ConditionError(f"{text!r} is no condition: write <6M, >=1.5G, 224 or 3M..6M")


def fits(facts: Mapping[str, Any], **asked: Any) -> bool:
    """Whether a network's facts keep all conditions that are asked for (not None).

    `params`, `macs` and `size` (the native side) are conditions; `stride` is an output stride that it can have;
    anything else must be equal.

    Raises:
        ConditionError: text that is no condition.
    """
    tests: dict[str, Callable[[Any], bool]] = {
        "params": lambda text: condition(text)(facts["params"]),
        "macs": lambda text: condition(text)(facts["macs"]),
        "size": lambda text: condition(text)(facts["native"]),
        "stride": lambda stride: stride in facts["output_stride"],
    }
    return all(
        tests[key](value) if key in tests else facts[key] == value for key, value in asked.items() if value is not None
    )
