"""Recipes: functions that return the settings of a training run."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from ..settings import TrainError, TrainSettings
from .finetune import finetune
from .scratch import scratch

RECIPES: dict[str, Callable[..., TrainSettings]] = {"finetune": finetune, "scratch": scratch}


def named(name: str) -> Callable[..., TrainSettings]:
    """A recipe by name. Raises `TrainError` for an unknown one."""
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise TrainError(f"no recipe {name!r}; {hint}there are {', '.join(RECIPES)}")
    return RECIPES[name]
