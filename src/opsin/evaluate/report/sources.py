"""Sections about where things come from: data, licences, how to do it again."""

from collections.abc import Iterator
from typing import Any

from opsin.evaluate.report.markup import Html, join, tag
from opsin.evaluate.report.results import table, thumbnail, tiles
from opsin.evaluate.report.say import known, number, shortened

Run = dict[str, Any]
MOST_SAMPLES = 12


def data(run: Run) -> Html | None:
    card = run.get("card")
    if not card:
        return None
    counts = card.get("counts") or {}
    columns = list(next(iter(counts.values()), {}))
    rows = [
        [shortened(name, 60), *(f"{row.get(c, 0):,}" for c in columns), f"{sum(row.values()):,}"]
        for name, row in counts.items()
    ]
    spreads = [card[key] for key in ("height", "width") if card.get(key)]
    sizes = [f"{middle:,.0f}" + (f" ({least:,}–{most:,})" if least != most else "") for least, middle, most in spreads]
    facts = [
        ("images", number(card.get("images"))),
        ("classes", str(len(counts))),
        ("height × width in pixels", " × ".join(sizes)),
        ("formats", ", ".join(card.get("formats") or ())),
        ("rarest class against an even share", number(card.get("balance"))),
        *(
            (name, number(len(card[key])))
            for key, name in (
                ("duplicates", "sets of duplicates"),
                ("conflicts", "duplicates with two labels"),
                ("broken", "broken files"),
            )
            if key in card
        ),
    ]
    pictures = [
        tag("figure", tag("div", thumbnail(one.get("image")), class_="one"), tag("figcaption", one.get("label")))
        for one in (run.get("samples") or [])[:MOST_SAMPLES]
    ]
    notes = [tag("p", note) for note in card.get("notes") or []]
    leaks = [
        f"{both}: {number(count)} {kind}"
        for both, found in (card.get("leakage") or {}).items()
        for kind, count in found.items()
        if count
    ]
    leak = tag("p", "Shared between parts: " + "; ".join(leaks)) if leaks else None
    broken = [
        [shortened(name, 90), shortened(reason, 200)]
        for name, reason in [*(card.get("broken") or []), *(card.get("skipped") or [])][:50]
    ]
    facts = [fact for fact in facts if fact[1] not in ("", "–")]
    return join(
        tag("p", card.get("name", ""), class_="soft"),
        tiles(facts),
        notes,
        leak,
        tag("div", pictures, class_="gallery samples") if pictures else None,
        table(["class", *columns, "together"], rows) if rows else None,
        [tag("h3", "Left out"), table(["file", "reason"], broken, words=1)] if broken else None,
    )


def provenance(run: Run) -> Html | None:
    parts = [
        join(tag("h3", name), _facts(run[key]))
        for key, name in (("licences", "Licences"), ("provenance", "Where data and weights come from"))
        if run.get(key)
    ]
    return join(parts) if parts else None


def reproduce(run: Run) -> Html | None:
    told = dict(run.get("reproduce") or {})
    if not told:
        return None
    command = told.pop("command", None)
    return join(tag("pre", command) if command else None, _facts(told) if told else None)


def _facts(told: Any) -> Html:
    rows = [tag("tr", tag("td", name), tag("td", value)) for name, value in flat(told)]
    return tag("div", tag("table", tag("tbody", rows), class_="facts"), class_="scroll")


def flat(told: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Nested dicts as rows of names and texts; what is empty is left out."""
    if isinstance(told, dict) and depth < 6:
        for key, value in told.items():
            yield from flat(value, f"{name} · {key}" if name else str(key), depth + 1)
    elif isinstance(told, list | tuple):
        yield name, shortened(", ".join(map(str, told)), 2000)
    elif told not in (None, ""):
        yield name, f"{told:,.4g}" if isinstance(told, float) and known(told) else shortened(told, 2000)
