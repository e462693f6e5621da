"""The report's charts as inline SVG, in the page's own colours."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from opsin.evaluate.report.markup import Html, join, tag
from opsin.evaluate.report.say import known, number, percent, shortened


def svg(width: float, height: float, label: str, *children: Any, class_: str = "chart") -> Html:
    return tag(
        "svg",
        tag("title", label),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        class_=class_,
        style=f"max-width:{width:g}px",
        xmlns="http://www.w3.org/2000/svg",
    )


def text(x: float, y: float, words: Any, class_: str = "t", anchor: str = "start") -> Html:
    return tag("text", words, x=float(x), y=float(y), class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str = "grid") -> Html:
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Values from `low` to `high` as places from `start` to `end`."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at most `low` to at least `high`."""
    if high <= low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    raw = (high - low) / about
    step = 10 ** math.floor(math.log10(raw))
    step *= next(m for m in (1, 2, 5, 10) if m * step >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def dots(rows: Sequence[dict[str, Any]], label: str) -> Html:
    """A dot and its interval a row: `name`, `value` and `interval` (shares), `note` on the right, `best` stands out."""
    left, right, row, width = 230, 130, 30, 860
    ends = [v for r in rows for v in (*(r.get("interval") or ()), r["value"])]
    marks = [t for t in ticks(min(ends), max(ends)) if t <= 1 + 1e-9]
    low, high = marks[0], max(marks[-1], max(ends))
    at, height = scale(low, high, left, width - right), 34 + row * len(rows)
    parts: list[Html | None] = []
    for mark in marks:
        words = percent(mark, _digits(marks))
        parts += [line(at(mark), 22, at(mark), height), text(at(mark), 14, words, "t", "middle")]
    for i, r in enumerate(rows):
        y, kind = 22 + row * (i + 0.5), "best" if r.get("best") else "other"
        name = text(left - 14, y + 4, join(tag("title", r["name"]), shortened(r["name"], 34)), f"name {kind}", "end")
        ends = [at(v) for v in r.get("interval") or ()]
        whisker = line(ends[0], y, ends[1], y, f"whisker {kind}") if ends else None
        dot = tag("circle", tag("title", percent(r["value"])), cx=at(r["value"]), cy=y, r=5, class_=f"dot {kind}")
        parts += [name, whisker, dot, text(width - right + 14, y + 4, r.get("note", ""), "t")]
    return svg(width, height, label, parts)


def lines(
    series: Mapping[str, Sequence[float | None]], label: str, shares: bool = False, mark: int | None = None
) -> Html:
    """Values over epochs (from 1), a line a name, each named at its end; `mark` is the epoch that was kept."""
    width, height, left, right, top, bottom = 430, 240, 44, 92, 14, 30
    found = {name: [(i + 1, v) for i, v in enumerate(vs) if known(v)] for name, vs in series.items()}
    found = {name: points for name, points in found.items() if points}
    values = [v for points in found.values() for _, v in points]
    last = max(x for points in found.values() for x, _ in points)
    marks = [t for t in ticks(min(values), max(values), 4) if not shares or t <= 1 + 1e-9]
    low, high = marks[0], max(marks[-1], max(values))
    x, y = scale(1, max(last, 2), left, width - right), scale(low, high, height - bottom, top)
    parts = [
        join(
            line(left, y(t), width - right, y(t)),
            text(left - 8, y(t) + 4, percent(t, _digits(marks)) if shares else number(t), "t", "end"),
        )
        for t in marks
    ]
    between = [int(t) for t in ticks(1, last, 4) if 1 < t < last - last / 8 and t == int(t)]
    epochs = sorted({1, last, *between})
    parts += [text(x(e), height - 10, e, "t", "middle") for e in epochs]
    if mark:
        parts.append(join(line(x(mark), top, x(mark), height - bottom, "mark"), tag("title", f"kept: epoch {mark}")))
    heights = _apart([y(points[-1][1]) for points in found.values()], 15)
    for i, ((name, points), at) in enumerate(zip(found.items(), heights)):
        path = " ".join(f"{x(e):.1f},{y(v):.1f}" for e, v in points)
        parts.append(tag("polyline", points=path, class_=f"line s{i}"))
        parts.append(tag("circle", cx=x(points[-1][0]), cy=y(points[-1][1]), r=3, class_=f"end s{i}"))
        parts.append(text(x(points[-1][0]) + 9, at + 4, shortened(name, 13), f"t l{i}"))
    return svg(width, height, label, parts)


def reliability(curves: dict[str, Sequence[dict[str, float]]], label: str) -> Html:
    """Accuracy against confidence, a dot a bin (its area: how many answers), on the diagonal when honest."""
    side, left, top, bottom, right = 260, 44, 12, 44, 120
    x, y = scale(0, 1, left, left + side), scale(0, 1, top + side, top)
    parts: list[Html] = []
    for t in (0, 0.25, 0.5, 0.75, 1):
        parts += [
            line(left, y(t), left + side, y(t)),
            text(left - 8, y(t) + 4, f"{t:.0%}", "t", "end"),
            text(x(t), top + side + 17, f"{t:.0%}", "t", "middle"),
        ]
    parts += [line(x(0), y(0), x(1), y(1), "mark"), text(x(0.5), top + side + 36, "confidence", "t", "middle")]
    most = max(row["count"] for rows in curves.values() for row in rows)
    for i, (name, rows) in enumerate(curves.items()):
        path = " ".join(f"{x(r['confidence']):.1f},{y(r['accuracy']):.1f}" for r in rows)
        parts.append(tag("polyline", points=path, class_=f"line s{i}"))
        for r in rows:
            told = f"{name}: confidence {percent(r['confidence'])}, right {percent(r['accuracy'])}, {r['count']} images"
            radius = 2.5 + 6 * math.sqrt(r["count"] / most)
            parts.append(
                tag(
                    "circle",
                    tag("title", told),
                    cx=x(r["confidence"]),
                    cy=y(r["accuracy"]),
                    r=radius,
                    class_=f"end s{i}",
                )
            )
        parts.append(text(left + side + 14, top + 14 + 18 * i, f"● {name}", f"t l{i}"))
    return svg(left + side + right, top + side + bottom, label, parts)


def matrix(counts: Sequence[Sequence[int]], names: Sequence[str], label: str) -> Html:
    """The confusion matrix: a row a true class, shaded by its share of the row; numbers where they fit."""
    n = len(names)
    cell = max(6.0, min(92.0 if n < 5 else 56.0, 620 / n))
    named, numbered = cell >= 14, cell >= 22
    left = 12 + (min(150, 7 * max(len(shortened(name, 20)) for name in names)) if named else 14)
    top = left if named and n > 4 else 40
    parts = [tag("rect", x=left, y=top, width=n * cell, height=n * cell, class_="frame")]
    for i, row in enumerate(counts):
        total = sum(row) or 1
        for j, count in enumerate(row):
            if count:
                share, kind = count / total, "right" if i == j else "wrong"
                told = f"{names[i]} taken for {names[j]}: {count} of {total} ({percent(share)})"
                spot = dict(x=left + j * cell, y=top + i * cell, width=cell, height=cell)
                shade = 0.1 + 0.9 * (share if i == j else share**0.5)  # so that rare mistakes show
                parts.append(tag("rect", tag("title", told), **spot, class_=kind, fill_opacity=shade))
                if numbered:
                    x, y = left + (j + 0.5) * cell, top + (i + 0.5) * cell + 4
                    parts.append(text(x, y, count, "n strong" if share > 0.55 else "n", "middle"))
        if named:
            parts.append(text(left - 8, top + (i + 0.5) * cell + 4, shortened(names[i], 20), "t", "end"))
            parts.append(_above(left + (i + 0.5) * cell, top - 8, shortened(names[i], 20), n > 4))
    size = n * cell
    return svg(left + size + 14, top + size + 10, label, parts, class_="chart matrix")


def bar(share: float | None) -> Html:
    """A small bar for a table's cell, from 0 to 1."""
    wide = max(0.0, min(1.0, share or 0.0))
    return tag("span", tag("i", style=f"width:{100 * wide:.1f}%"), class_="bar")


def span(value: float, ends: Sequence[float] | None, guess: float) -> Html:
    """A share and its interval on a scale from below the `guess` that needs no model to 100%, in one thin strip."""
    low = math.floor(10 * min([guess, value, *(ends or ())]) - 1e-9) / 10
    at = scale(max(low, 0.0), 1.0, 20, 440)
    whisker = line(at(ends[0]), 12, at(ends[1]), 12, "whisker best") if ends else None
    floor = text(max(at(guess), 44), 36, f"{guess:.0%} guessed", "t", "middle")
    return svg(
        460,
        46,
        f"Accuracy {percent(value)}, without a model {percent(guess)}",
        line(20, 12, 440, 12, "axis"),
        line(at(guess), 5, at(guess), 19, "tick"),
        floor,
        text(440, 36, "100%", "t", "middle"),
        whisker,
        tag("circle", cx=at(value), cy=12, r=6, class_="dot best"),
        class_="strip",
    )


def _above(x: float, y: float, words: str, turned: bool) -> Html:
    if not turned:
        return text(x, y, words, "t", "middle")
    return tag("text", words, class_="t", transform=f"translate({x + 4:.1f} {y:.1f}) rotate(-90)")


def _apart(heights: list[float], gap: float) -> list[float]:
    """The same heights, moved so that no two labels overlap."""
    out = list(heights)
    order = sorted(range(len(out)), key=lambda i: out[i])
    for before, after in pairwise(order):
        out[after] = max(out[after], out[before] + gap)
    return out


def _digits(marks: Sequence[float]) -> int:
    return 0 if all(abs(100 * t - round(100 * t)) < 1e-6 for t in marks) else 1
