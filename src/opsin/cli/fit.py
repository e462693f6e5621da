"""opsin fit"""

from pathlib import Path
from typing import Annotated

import typer

from .show import Json, as_json


def command(
    data: Annotated[
        str,
        typer.Argument(
            help="A folder with a folder a class; one with train/ val/ test/; a CSV or "
            "Parquet table (path,label); demo:solar-cells, demo:fashion-mnist, "
            "demo:shapes."
        ),
    ],
    under: Annotated[
        list[str],
        typer.Option(help="A limit to keep: 5ms (a picture, here), 20MB, 300MMACs. May be given several times."),
    ] = [],  # noqa: B006
    model: Annotated[str, typer.Option(help="auto, or names from `opsin list`, parted by commas.")] = "auto",
    minutes: Annotated[float, typer.Option(help="For the whole run, but for downloads.")] = 7.0,
    licence: Annotated[
        str | None, typer.Option(help="Only weights and code so licensed: permissive, or SPDX identifiers.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; default runs/ and the name of the data.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    seed: Annotated[int, typer.Option(help="Of splits, draws and batches.")] = 0,
    set_: Annotated[
        list[str],
        typer.Option("--set", help="key=value over any setting in config.yaml, such as test=0.2 or train.lr=0.001."),
    ] = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Train the best model that keeps your limits, and prove it.

    Reads and checks the images, measures networks on this machine, ranks them by probes, fine-tunes the best, tests it
    once on images it never saw, exports it to ONNX with its preprocessing, and writes report.html.

    opsin fit photos/ --under 5ms --under 20MB --licence permissive
    """
    from ..verbs import fit

    made = fit(
        data,
        under=under,
        model=model,
        minutes=minutes,
        licence=licence,
        out=out,
        resume=resume,
        seed=seed,
        settings=set_,
    )
    if json:
        as_json(made)
