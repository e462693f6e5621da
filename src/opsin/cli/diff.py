"""opsin diff"""

from typing import Annotated

import typer

from .show import Json, as_json, table


def command(
    first: Annotated[str, typer.Argument(help="A network's name, a saved network's folder, or a run folder.")],
    second: Annotated[str, typer.Argument(help="The other one.")],
    json: Json = False,
) -> None:
    """Show where two networks differ: facts, then layers (* stands for numbers)."""
    from ..verbs import diff

    made = diff(first, second)
    if json:
        as_json(made)
        return
    if not made["facts"] and not made["layers"]:
        print(f"{first} and {second} are the same network.")
        return
    table([[key, *both] for key, both in made["facts"].items()], ["", first, second])
    print()
    rows = [[row["times"], row["part"], row["first"], row["second"]] for row in made["layers"]]
    table(rows, ["times", "layer", first, second])
