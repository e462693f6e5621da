"""The catalogue: every paper that the library answers for, where it lives here, how it is proved, what is missing.

search("pruning", state="not yet")
print(table(search(category="backbone")))
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.resources import files
from typing import TYPE_CHECKING

from opsin.errors import OpsinError

if TYPE_CHECKING:
    from rich.table import Table

STATES = ("works", "partly", "not yet")


@dataclass(frozen=True)
class Count:
    """A count that the paper prints otherwise than is measured here, and why.

    Attributes:
        what: "params", or "macs" at the native size; `opsin.facts(network)` has the measured one.
    """

    network: str
    what: str
    printed: float
    because: str


@dataclass(frozen=True)
class Figure:
    """A number that a paper states, beside what was measured here and the command that measures it."""

    what: str
    paper: str
    here: str
    how: str


@dataclass(frozen=True)
class Fixed:
    """Widths of a paper's networks that cannot change, and why.

    Attributes:
        networks: the pattern of their names.
        parameters: the ends of the parameters' names; none: one dimension of any parameter, the residual's.
    """

    networks: str
    parameters: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Paper:
    """A paper and what stands of it here.

    Attributes:
        names: the systems it names, in a few words.
        state: "works": all that it names is here and proved. "partly", "not yet": `missing` says what is to be shown.
        lives: dotted paths of callables.
        proof: pytest node ids.
        counts: where the paper's printed parameters or multiply-accumulates differ.
    """

    id: int
    title: str
    category: str
    names: str
    state: str
    lives: tuple[str, ...]
    proof: tuple[str, ...]
    missing: str
    counts: tuple[Count, ...] = ()
    figures: tuple[Figure, ...] = ()
    fixed: tuple[Fixed, ...] = ()


@functools.cache
def papers() -> tuple[Paper, ...]:
    """The whole catalogue, by id."""
    return tuple(_paper(row) for row in _rows("papers.tsv"))


def fixed(name: str) -> list[Fixed]:
    """What of a network's widths cannot change, by its name."""
    return [entry for paper in papers() for entry in paper.fixed if fnmatch(name, entry.networks)]


def search(query: str | None = None, state: str | None = None, category: str | None = None) -> list[Paper]:
    """Papers that hold every word of `query` (in title, names or place; case aside), of a state and a category.

    Raises:
        OpsinError: a state or category that does not exist.
    """
    _known("state", state, STATES)
    _known("category", category, sorted({paper.category for paper in papers()}))
    words = (query or "").lower().split()
    return [
        paper
        for paper in papers()
        if state in (None, paper.state)
        and category in (None, paper.category)
        and all(word in _text(paper) for word in words)
    ]


def table(found: Iterable[Paper]) -> Table:
    """Papers as a table for the terminal; its caption counts the states."""
    from rich.table import Table
    from rich.text import Text

    colours = {"works": "green", "partly": "yellow", "not yet": "dim"}
    found = list(found)
    counts = ", ".join(f"{sum(paper.state == state for paper in found)} {state}" for state in STATES)
    out = Table("id", "paper", "names", "state", caption=f"{len(found)} paper{'s' * (len(found) != 1)}: {counts}")
    out.add_column("here, or missing", overflow="fold")
    for paper in found:
        place = "\n".join([*paper.lives, *([f"missing: {paper.missing}"] if paper.missing else []), *_notes(paper)])
        cells = (str(paper.id), paper.title, paper.names, Text(paper.state, colours[paper.state]), place)
        out.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    return out


def _notes(paper: Paper) -> list[str]:
    differing: dict[str, list[str]] = {}
    for c in paper.counts:
        giga = c.printed >= 1e9
        differing.setdefault(c.because, []).append(
            f"{c.network} {c.printed / (1e9 if giga else 1e6):.4g} {'G' if giga else 'M'} {c.what}"
        )
    counts = [f"printed otherwise: {', '.join(told)}: {because}" for because, told in differing.items()]
    figures = [f"{f.what}: paper {f.paper}, here {f.here} ({f.how})" for f in paper.figures]
    widths = [f"fixed in {f.networks}: {' '.join(f.parameters) or 'residual'}: {f.reason}" for f in paper.fixed]
    return counts + figures + widths


def _rows(name: str) -> list[dict[str, str]]:
    text = files("opsin.papers").joinpath(name).read_text(encoding="utf-8")
    return [*csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)]


@functools.cache
def _beside(name: str) -> dict[str, list[dict[str, str]]]:
    """The rows of a table that tells more of some papers, by their ids."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in _rows(name):
        found.setdefault(row.pop("id"), []).append(row)
    return found


def _paper(row: dict[str, str]) -> Paper:
    counts, figures, widths = (_beside(name).get(row["id"], []) for name in ("counts.tsv", "figures.tsv", "fixed.tsv"))
    return Paper(
        id=int(row["id"]),
        title=row["title"],
        category=row["category"],
        names=row["names"],
        state=row["state"],
        lives=tuple(row["lives"].split()),
        proof=tuple(row["proof"].split()),
        missing=row["missing"],
        counts=tuple(Count(c["network"], c["what"], float(c["printed"]), c["because"]) for c in counts),
        figures=tuple(Figure(**f) for f in figures),
        fixed=tuple(Fixed(f["networks"], tuple(f["parameters"].split()), f["reason"]) for f in widths),
    )


def _text(paper: Paper) -> str:
    return " ".join((str(paper.id), paper.title, paper.names, *paper.lives)).lower()


def _known(what: str, value: str | None, choices: Iterable[str]) -> None:
    if value is not None and value not in choices:
        raise OpsinError(f"no {what} is called {value!r}; there are {', '.join(choices)}")
