"""The commands, gathered."""

import typer

from . import benchmark, diff, doctor, evaluate, explain, fit, info, list_, papers, predict, weights

app = typer.Typer(
    name="opsin",
    help="Vision backbones: from a folder of images and a limit to the best model that keeps it, with evidence.\n\n"
    "Start with: opsin fit PHOTOS --under 5ms",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("fit")(fit.command)
app.command("predict")(predict.command)
app.command("evaluate")(evaluate.command)
app.command("explain")(explain.command)
app.command("benchmark")(benchmark.command)
app.command("list")(list_.command)
app.command("info")(info.command)
app.command("diff")(diff.command)
app.command("papers")(papers.command)
app.command("doctor")(doctor.command)
app.add_typer(weights.app, name="weights")


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if show:
        from .. import __version__

        typer.echo(__version__)
        raise typer.Exit()
