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
    facts(told)
    table(
        [[s["part"], s["params"], f"{s['share']:.1%}", bar(s["share"])] for s in stages],
        ["part", "parameters", "share", ""],
    )
