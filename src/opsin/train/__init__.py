"""Training: one loop, its settings, and recipes that return them."""

from . import recipes
from .loop import finetune
from .settings import TrainError, TrainSettings

__all__ = ["TrainError", "TrainSettings", "finetune", "recipes"]
