"""A model whose widths are plain integers, for tools that accept nothing else."""

import copy
from typing import Any

from torch import nn

from opsin.width import Width


def plain(model: nn.Module) -> nn.Module:
    """A copy of the model in which every Width that a module holds, also inside lists, tuples and dicts, is an int."""
    model = copy.deepcopy(model)
    for m in model.modules():
        for name, value in vars(m).items():
            if not name.startswith("_"):
                vars(m)[name] = _plain(value)
    return model


def _plain(value: Any) -> Any:
    if isinstance(value, Width):
        return int(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_plain, value))
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    return {key: _plain(item) for key, item in value.items()} if type(value) is dict else value
