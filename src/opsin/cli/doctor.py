"""opsin doctor"""

from .show import Json, as_json, facts


def command(json: Json = False) -> None:
    """Say what this machine and installation are, and what is missing for what."""
    from ..verbs import doctor

    made = doctor()
    as_json(made) if json else facts(made)
