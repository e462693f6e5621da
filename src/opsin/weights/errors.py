"""What goes wrong with weights, each with its remedy."""

from opsin.errors import OpsinError


class WeightsError(OpsinError):
    """A file of weights is missing, unreadable, refused, or does not fit the network."""
