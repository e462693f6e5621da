"""opsin papers"""

from typing import Annotated

import typer

from .show import Json, as_json, console


def command(
    query: Annotated[str | None, typer.Argument(help="Words to look for.")] = None,
    state: Annotated[str | None, typer.Option(help="works, partly or 'not yet'.")] = None,
    category: Annotated[str | None, typer.Option(help="backbone, operator, compress, search ...")] = None,
    json: Json = False,
) -> None:
    """Show the papers that the library answers for, and what of each works."""
    from ..papers import table
    from ..verbs import papers

    found = papers(query, state=state, category=category)
    as_json(found) if json else console().print(table(found))
