"""opsin weights"""

from pathlib import Path
from typing import Annotated

import typer

from .show import Json, as_json, table

app = typer.Typer(help="Published weights: list, pull, verify, bundle.", no_args_is_help=True)
Names = Annotated[list[str], typer.Argument(help="Names from `opsin weights list`.")]
Licence = Annotated[
    str | None, typer.Option(help="Only weights and code so licensed: permissive, or SPDX identifiers.")
]


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Names, with wildcards.")] = "*",
    licence: Licence = None,
    json: Json = False,
) -> None:
    """List published weights: source, licences, training data, published figures."""
    from ..weights import listing

    rows = listing(pattern, licence)
    if json:
        as_json(rows)
        return
    shown = [[r.name, r.source, r.licence.get("weights"), r.licence.get("data"), r.metrics] for r in rows]
    table(shown, ["name", "source", "weights", "data", "published"])


@app.command()
def pull(names: Names, licence: Licence = None) -> None:
    """Fetch weights into the cache, checked against their SHA-256."""
    from ..weights import pull

    for path in pull(names, licence):
        typer.echo(path)


@app.command()
def verify(names: Annotated[list[str] | None, typer.Argument(help="Default: all that are here.")] = None) -> None:
    """Check the files in the cache against what was published and locked."""
    from ..weights import verify

    found = verify(names or None)
    table([list(vars(status).values()) for status in found], list(vars(found[0])) if found else [])


@app.command()
def bundle(
    names: Names,
    out: Annotated[Path, typer.Option(help="The folder or .tar to write.")],
    licence: Licence = None,
) -> None:
    """Put weights into one folder or .tar for a machine without a network."""
    from ..weights import bundle

    typer.echo(bundle(names, out, licence))


@app.command()
def unbundle(source: Annotated[Path, typer.Argument(help="What `bundle` wrote.")]) -> None:
    """Take a bundle's weights into this machine's cache."""
    from ..weights import unbundle

    table([list(vars(status).values()) for status in unbundle(source)], ["name", "state"])
