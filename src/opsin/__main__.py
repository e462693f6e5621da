"""`python -m opsin` is the command `opsin`."""

from .cli import main

main()
