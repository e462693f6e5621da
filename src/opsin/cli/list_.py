"""opsin list"""

from typing import Annotated

import typer

from .show import Json, as_json, table


def command(
    pattern: Annotated[str, typer.Argument(help="Names, with wildcards: 'resnet*'.")] = "*",
    weights: Annotated[bool, typer.Option("--weights", help="Only networks with published weights at hand.")] = False,
    json: Json = False,
) -> None:
    """List networks with their facts; nothing is built."""
    from .. import verbs

    rows = verbs.list(pattern, weights=weights)
    if json:
        as_json(rows)
        return
    shown = [
        [r["name"], r["params"] / 1e6, r["macs"] / 1e9, r["native"], r["strides"][-1], r["arxiv"], r["weights"]]
        for r in rows
    ]
    table(shown, ["name", "M params", "GMACs", "pixels", "stride", "arXiv", "weights"])
