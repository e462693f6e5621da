"""opsin explain"""

from pathlib import Path
from typing import Annotated

import typer

from .show import Json, as_json


def command(
    run: Annotated[Path, typer.Argument(help="A run folder, or one that opsin.save wrote.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[Path | None, typer.Option(help="Where the pictures go; default explain/ in the run.")] = None,
    method: Annotated[
        str,
        typer.Option(help="eigencam (what stands out), gradcam (what speaks for the class) or erf (how far it sees)."),
    ] = "eigencam",
    json: Json = False,
) -> None:
    """Draw what the model looked at over pictures."""
    from ..verbs import explain

    made = explain(run, images, out=out, method=method)
    if json:
        as_json([str(path) for path in made])
    else:
        for path in made:
            typer.echo(path)
