"""The command line: each command is one call of the function of the same name in `opsin.verbs`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command; what a user can act on is one message on standard error and exit status 1."""
    from ..errors import OpsinError
    from .app import app

    try:
        status = app(prog_name="opsin", standalone_mode=False)
        if isinstance(status, int):  # what typer.Exit asked for
            sys.exit(status)
    except OpsinError as error:
        stop(str(error), 1)
    except KeyboardInterrupt:
        stop("stopped; a run goes on with --resume", 130)
    except MemoryError:
        stop("out of memory: take a smaller --set size, or train.batch_size", 1)
    except OSError as error:
        stop(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 1)
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        usage(error)


def usage(error: Exception) -> None:
    """The parser's own errors, with its own look and status; a plain exit passes on its status."""
    if hasattr(error, "show"):
        error.show()
    sys.exit(int(error.exit_code))  # type: ignore[attr-defined]


def stop(text: str, status: int) -> None:
    print(f"opsin: {text}", file=sys.stderr)
    sys.exit(status)
