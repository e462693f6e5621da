"""What goes wrong with weights, each with its remedy."""

from opsin.errors import OpsinError


class WeightsError(OpsinError):
    """A file of weights is missing, unreadable, refused, or does not fit the network."""


class MissingWeights(WeightsError):
    """Not on this machine, and not to be had from elsewhere now; the message says what to fetch and where to put it."""
