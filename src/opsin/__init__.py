"""Vision backbones equal to their papers, and one set of tools that works on all of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .blocks.graft import graft
from .errors import OpsinError
from .factory import create_model
from .registry import capabilities, facts, list_models
from .width import Concat, Groups, Width, narrow, slices, widths

if TYPE_CHECKING:
    from .verbs import benchmark, doctor, explain, fit, info, predict
    from .weights.store import load, save

__version__ = "0.1.0"

LATER = {  # public functions whose modules cost time to import
    "load": "weights.store",
    "save": "weights.store",
    **dict.fromkeys(("benchmark", "doctor", "explain", "fit", "info", "predict"), "verbs"),
}


def __getattr__(name: str) -> Any:
    if name in LATER:
        return getattr(import_module(f"opsin.{LATER[name]}"), name)
    raise AttributeError(f"module 'opsin' has no attribute {name!r}")


__all__ = [
    "Concat",
    "Groups",
    "OpsinError",
    "Width",
    "benchmark",
    "capabilities",
    "create_model",
    "doctor",
    "explain",
    "facts",
    "fit",
    "graft",
    "info",
    "list_models",
    "load",
    "narrow",
    "predict",
    "save",
    "slices",
    "widths",
]
