"""opsin list"""

from typing import Annotated

import typer

from .show import Json, as_json, table


def command(
    pattern: Annotated[str, typer.Argument(help="Names, with wildcards: 'resnet*'; 'timm:resnet*' for timm's.")] = "*",
    params: Annotated[str | None, typer.Option(help="Parameters: '<6M', '3M..6M'.")] = None,
    macs: Annotated[str | None, typer.Option(help="Multiply-accumulates at the native size: '<600M', '>=4G'.")] = None,
    size: Annotated[str | None, typer.Option(help="Native input side in pixels: '224', '<=256'.")] = None,
    stride: Annotated[int | None, typer.Option(help="An output stride that the network can have: 8, 16, 32.")] = None,
    family: Annotated[str | None, typer.Option(help="The family's file, such as resnet.")] = None,
    arxiv: Annotated[str | None, typer.Option(help="The paper's arXiv number.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the authors' code: permissive, or SPDX names.")] = None,
    weights: Annotated[bool, typer.Option("--weights", help="Only networks with published weights at hand.")] = False,
    json: Json = False,
) -> None:
    """List networks with their facts; nothing is built.

    Example: opsin list --params '<6M' --macs '<600M' --stride 8
    """
    from .. import verbs

    rows = verbs.list(
        pattern,
        params=params,
        macs=macs,
        size=size,
        stride=stride,
        family=family,
        arxiv=arxiv,
        licence=licence,
        weights=weights,
    )
    if json:
        as_json(rows)
        return
    columns = ["name", "M params", "GMACs", "pixels", "stride", "arXiv"]
    shown = [[r["name"], r["params"] / 1e6, r["macs"] / 1e9, r["native"], r["strides"][-1], r["arxiv"]] for r in rows]
    if any(r["weights"] for r in rows):
        columns.append("weights")
        shown = [[*told, r["weights"]] for told, r in zip(shown, rows, strict=True)]
    table(shown, columns)
