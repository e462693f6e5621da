"""opsin predict"""

from pathlib import Path
from typing import Annotated

import typer

from .show import Json, as_json, table


def command(
    run: Annotated[Path, typer.Argument(help="A run folder, or an .onnx file that opsin exported.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="So many classes a picture.")] = 1,
    json: Json = False,
) -> None:
    """Say what is on pictures, by the model of a run.

    opsin predict runs/photos new/*.jpg
    """
    from ..verbs import predict

    rows = predict(run, images, top=top)
    if json:
        as_json(rows)
    else:
        shown = [
            [
                row["path"],
                "  ".join(f"{b['label']} {b['probability']:.1%}" for b in row.get("top", []))
                or f"skipped: {row['error']}",
            ]
            for row in rows
        ]
        table(shown, ["image", "classes"])
    if all("error" in row for row in rows):
        raise typer.Exit(1)
