"""Vision backbones equal to their papers, and one set of tools that works on all of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import OpsinError
from .factory import create_model
from .registry import capabilities, facts, list_models
from .width import Concat, Groups, Width, narrow, slices, widths

if TYPE_CHECKING:
    from .weights.store import load, save

__version__ = "0.1.0"

LATER = {"load": "weights.store", "save": "weights.store"}  # public functions whose modules cost time to import


def __getattr__(name: str) -> Any:
    if name in LATER:
        return getattr(import_module(f"opsin.{LATER[name]}"), name)
    raise AttributeError(f"module 'opsin' has no attribute {name!r}")


__all__ = [
    "Concat",
    "Groups",
    "OpsinError",
    "Width",
    "capabilities",
    "create_model",
    "facts",
    "list_models",
    "load",
    "narrow",
    "save",
    "slices",
    "widths",
]
