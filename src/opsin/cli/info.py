"""opsin info"""

from typing import Annotated

import typer

from .show import Json, as_json, bar, facts, table


def command(
    name: Annotated[str, typer.Argument(help="A network's name, a saved network's folder, or a run folder.")],
    json: Json = False,
) -> None:
    """Tell all about a network, and draw its parts."""
    from ..verbs import info

    told = info(name)
    if json:
        as_json(told)
        return
    stages = told.pop("stages")
    facts({key: value for key, value in told.items() if key != "names"})  # a digest of the parameters' names
    rows = [
        [s["part"], shape(s["shape"]), s["params"], f"{s['share']:.1%}", s["macs"], f"{s['cost']:.1%}", bar(s["cost"])]
        for s in stages
    ]
    table(rows, ["part", "gives", "parameters", "share", "MACs", "share", ""])


def shape(sizes: list[int] | None) -> str:
    return "x".join(map(str, sizes)) if sizes else "-"
