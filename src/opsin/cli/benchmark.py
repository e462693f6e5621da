"""opsin benchmark"""

from typing import Annotated

import typer

from .show import Json, as_json, facts


def command(
    model: Annotated[str, typer.Argument(help="A network's name, a saved network, an .onnx file, or a run folder.")],
    size: Annotated[int | None, typer.Option(help="Input side in pixels; default the native one.")] = None,
    batch: Annotated[int, typer.Option(help="Pictures at once.")] = 1,
    threads: Annotated[int | None, typer.Option(help="Of the runtime; default its own choice.")] = None,
    seconds: Annotated[float, typer.Option(help="How long to measure.")] = 3.0,
    json: Json = False,
) -> None:
    """Measure latency, throughput, peak memory, parameters and multiply-accumulates here."""
    from ..verbs import benchmark

    made = benchmark(model, size=size, batch=batch, threads=threads, seconds=seconds)
    as_json(made) if json else facts(made)
