"""opsin evaluate"""

from pathlib import Path
from typing import Annotated

import typer

from .show import Json, as_json, facts, table


def command(
    run: Annotated[Path, typer.Argument(help="A run folder, or an .onnx file that opsin exported.")],
    data: Annotated[str, typer.Argument(help="Labelled images, as for `opsin fit`; all of them are used.")],
    label: Annotated[str, typer.Option(help="Column of the labels in a table.")] = "label",
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    json: Json = False,
) -> None:
    """Measure a run's model on other labelled images, with 95 % intervals."""
    from ..verbs import evaluate

    made = evaluate(run, data, label=label, seed=seed)
    if json:
        as_json(made)
        return
    single = {k: v for k, v in made.items() if isinstance(v, int | float)}
    facts({k: f"{v:.4g} {spread(made['intervals'].get(k))}" for k, v in single.items()}, str(run))
    table([list(row.values()) for row in made["per_class"]], list(made["per_class"][0]))


def spread(ends: list[float] | None) -> str:
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]" if ends else ""
