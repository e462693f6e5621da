"""Numbers as people write them."""

import math
from typing import Any, TypeGuard


def known(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(value: Any, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}%" if known(value) else "–"


def between(ends: Any) -> str:
    """`88.9–93.3%`, or nothing for no interval."""
    return f"{100 * ends[0]:.1f}–{100 * ends[1]:.1f}%" if ends else ""


def number(value: Any) -> str:
    """Three digits that matter, thousands parted."""
    if not known(value):
        return "–"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def large(value: Any) -> str:
    """`4.65 M`, `407 M`, `1.2 G`."""
    if not known(value):
        return "–"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return number(value)


def small(value: Any) -> str:
    """`1.4e-06`, and 0 as 0."""
    return f"{value:.1e}" if known(value) and value else number(value)


def shortened(text: Any, most: int) -> str:
    text = str(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def unit(what: str, value: Any) -> str:
    """A cost with its unit: `latency_ms` 3.2 -> `3.2 ms`."""
    if what == "latency_ms":
        return f"{number(value)} ms"
    if what.endswith("_mb"):
        return f"{number(value)} MB"
    return f"{large(value)}{'MACs' if what == 'macs' else ''}"
