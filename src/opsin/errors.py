"""Errors that a user can act on."""


class OpsinError(Exception):
    """Base of every error whose message names the thing, the value and the remedy; the command line prints it alone."""
