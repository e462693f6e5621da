"""How results are printed: tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

PIPED = 160  # columns of a line that no terminal bounds

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def as_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, default=plain))


def plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def table(rows: Sequence[Sequence[Any]], columns: Sequence[str], title: str | None = None) -> None:
    """Rows under column names; numbers are set to the right, and what the first column names is never broken."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for i, column in enumerate(columns):
        number = bool(rows) and isinstance(rows[0][i], int | float)
        made.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=i == 0)
    for row in rows:
        made.add_row(*[escape(cell(value)) for value in row])
    console().print(made)


def console() -> Console:
    """As wide as the terminal, or as what can be read where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED)


def cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and abs(value) >= 1000:
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return " ".join(map(cell, value))
    return str(value)


def facts(told: Mapping[str, Any], title: str | None = None) -> None:
    """One line a fact."""
    table([[key, cell(value)] for key, value in flat(told)], ["", ""], title)


def flat(told: Mapping[str, Any], under: str = "") -> list[tuple[str, Any]]:
    """Nested facts as dotted names."""
    out: list[tuple[str, Any]] = []
    for key, value in told.items():
        name = f"{under}{key}"
        out += flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return out


def bar(share: float, length: int = 24) -> str:
    """A share of 1 as a bar of blocks."""
    return "█" * round(share * length)
