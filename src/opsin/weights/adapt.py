"""Tensors under our names into a network: all of them, or an error that lists what does not fit."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from opsin.convert import few
from opsin.layers.position import Positions, resampled
from opsin.progress import say

from .errors import WeightsError

COUNTER = "num_batches_tracked"  # how many batches a norm has seen: no weight, and missing from old checkpoints


def pour(model: nn.Module, state: Mapping[str, Tensor], source: str, exact: bool = False) -> bool:
    """Load tensors that bear our names; returns whether the classifier came with them.

    A classifier of another number of classes is left out, one input convolution is summed or spread over another
    number of channels, tables of positions are resampled to another grid; each is said. Nothing else is forgiven, and
    with `exact` not even that.

    Raises:
        WeightsError: missing and unexpected names (near ones paired) or other shapes, listed; the model is as it was.
    """
    wanted = model.state_dict()
    state = {name: _shaped(tensor, wanted.get(name, tensor)) for name, tensor in state.items()}
    said = [] if exact else [_positions(model, state), _channels(state, wanted)]
    left_out = [] if exact else _classifier(model, state, wanted)
    problems = [*_names(state, wanted, left_out), *_shapes(state, wanted)]
    if problems:
        raise WeightsError(f"{source} does not fit this network:\n  " + "\n  ".join(problems))
    model.load_state_dict(state, strict=False)
    for text in [*said, _told(left_out, wanted)]:
        if text:
            say(f"{source}: {text}")
    return not left_out and any(name.startswith(_classifiers(model)) for name in wanted)


def _shaped(tensor: Tensor, like: Tensor) -> Tensor:
    """In our shape, what others write as a 1x1 convolution (or we do), and experts' kernels that others write flat."""
    flat = tensor.ndim == 2 and like.ndim == 4 and tensor.numel() == like.numel() and len(like) % len(tensor) == 0
    return tensor.reshape(like.shape) if flat or tensor.squeeze().shape == like.squeeze().shape else tensor


def _positions(model: nn.Module, state: dict[str, Tensor]) -> str:
    told = ""
    for path, module in model.named_modules():
        name = f"{path}.table"
        if isinstance(module, Positions) and name in state and state[name].shape != module.table.shape:
            side = round((state[name].shape[1] - module.prefix) ** 0.5)
            if state[name].ndim == 3 and side**2 == state[name].shape[1] - module.prefix:
                state[name] = resampled(state[name], module.prefix, (side, side), module.grid)
                told = f"positions resampled from {side}x{side} to {module.grid[0]}x{module.grid[1]}"
    return told


def _channels(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """The first convolution alone may read other channels: each gets the mean filter, so that sums stay as large."""
    other = [
        name
        for name in state.keys() & wanted.keys()
        if state[name].ndim == wanted[name].ndim == 4
        and state[name].shape[1] == 3 != wanted[name].shape[1]
        and (state[name].shape[0], *state[name].shape[2:]) == (wanted[name].shape[0], *wanted[name].shape[2:])
    ]
    if len(other) != 1:
        return ""
    name, count = other[0], wanted[other[0]].shape[1]
    state[name] = (state[name].sum(1, keepdim=True) / count).expand(-1, count, -1, -1).contiguous()
    return f"{name} reads {count} channels with the mean filter of its 3"


def _classifier(model: nn.Module, state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Names of a classifier of another number of classes, taken out of the state."""
    prefixes = _classifiers(model)
    theirs = [name for name in state if name.startswith(prefixes)]
    same = all(name in wanted and state[name].shape[:1] == wanted[name].shape[:1] for name in theirs)
    if same:
        return []
    for name in theirs:
        del state[name]
    return theirs


def _classifiers(model: Any) -> tuple[str, ...]:
    """What names of classifiers begin with: the head's own, and those of auxiliary heads inside it."""
    main = model.get_classifier() if hasattr(model, "get_classifier") else None
    modules = model.named_modules()
    return tuple(f"{path}." for path, m in modules if m is main or re.fullmatch(r"head\.(.+\.)?fc", path))


def _told(left_out: Iterable[str], wanted: Mapping[str, Tensor]) -> str:
    if not left_out:
        return ""
    new = [len(wanted[name]) for name in left_out if name in wanted]
    after = f"the new one, of {new[0]} classes, starts random" if new else "this network has none"
    return f"its classifier was left out; {after}"


def _names(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], left_out: Iterable[str]) -> list[str]:
    missing = [name for name in wanted if name not in state and name not in left_out and not name.endswith(COUNTER)]
    unexpected = [name for name in state if name not in wanted and not name.endswith(COUNTER)]
    problems = []
    if missing:
        problems.append(f"{len(missing)} names are missing: {few(missing)}")
    if unexpected:
        problems.append(f"{len(unexpected)} names are unexpected: {few(unexpected)}")
    pairs = [(name, get_close_matches(name, missing, 1, 0.9)) for name in unexpected[:8]]
    if near := [f"{name} for {hit[0]}" for name, hit in pairs if hit]:
        problems.append(f"perhaps {', '.join(near)}")
    return problems


def _shapes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    other = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    told = [f"{name} is {_size(state[name])}, not {_size(wanted[name])}" for name in other]
    return [f"{len(told)} shapes differ: {few(told)}"] if told else []


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
