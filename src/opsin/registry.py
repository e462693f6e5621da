"""Names for networks, facts about them without importing them, and operators written as calls."""

from __future__ import annotations

import ast
import fnmatch
import functools
import inspect
import json
import math
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from typing import Any

from torch import nn

from .errors import OpsinError

FACTS = ("native", "arxiv", "title", "multiple")  # of a variant's entry: told about it, not passed to the builder


class UnknownName(OpsinError, KeyError):
    """A network or operator that is not here; the message names near ones."""

    def __str__(self) -> str:
        return str(self.args[0])


class UnsupportedArgument(OpsinError, TypeError):
    """An argument that this network cannot mean."""


Builder = Callable[..., Any]  # makes a blocks.Network, which stands behind this module
BUILDERS: dict[str, tuple[Builder, dict[str, Any]]] = {}
ABOUT: dict[str, dict[str, Any]] = {}
OPERATORS: dict[str, Callable[..., nn.Module]] = {}
OUTSIDE = {"timm:": "opsin.adapter"}  # prefix of names that others' packages own, and who speaks for them


def about(
    *,
    title: str,
    arxiv: str | None,
    licence: str,
    native: int = 224,
    multiple: int = 1,
    dilates: bool = False,
    task: str = "classify",
) -> dict[str, Any]:
    """What is told about a family: its paper, the licence of the authors' code, and what its networks accept.

    `native` is the side in pixels that the published weights use, `multiple` what input sides must be divisible by,
    `dilates` whether strides may be traded for dilation (`output_stride`), `task` what the head answers.
    """
    return dict(title=title, arxiv=arxiv, licence=licence, native=native, multiple=multiple, dilates=dilates, task=task)


def family(told: Mapping[str, Any], /, **variants: Mapping[str, Any]) -> Callable[[Builder], Builder]:
    """Register a builder once for each variant: the arguments that tell it apart (and facts where they differ)."""

    def register(build: Builder) -> Builder:
        module = build.__module__.rpartition(".")[2]
        for name, entry in variants.items():
            arguments = {k: v for k, v in entry.items() if k not in FACTS}
            BUILDERS[name] = (build, arguments)
            ABOUT[name] = {**told, **{k: v for k, v in entry.items() if k in FACTS}, "family": module}
        return build

    return register


@functools.cache
def table() -> dict[str, dict[str, Any]]:
    """The shipped facts of every network, by name: one file a family."""
    told = sorted(files("opsin.families").joinpath("facts").iterdir(), key=lambda file: file.name)
    entries = {name: entry for file in told for name, entry in json.loads(file.read_text()).items()}
    return {name: {"name": name, **entry} for name, entry in entries.items()}


def outside(name: str) -> Any:
    """The module that knows others' networks of such a name (`timm:resnet50`); None for a name of our own."""
    prefix = next((prefix for prefix in OUTSIDE if name.startswith(prefix)), None)
    return import_module(OUTSIDE[prefix]) if prefix else None


def natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def list_models(pattern: str = "*") -> list[str]:
    """Names of the networks that match a wildcard pattern (`"resnet*"`, `"timm:resnet*"`), in natural order."""
    if others := outside(pattern):
        names: list[str] = others.listed(pattern)
        return names
    return sorted(fnmatch.filter(table(), pattern), key=natural)


def facts(name: str) -> dict[str, Any]:
    """What is known of a network unbuilt: params, macs (at `native` pixels), strides, widths, paper, licence.

    Raises:
        UnknownName: no such network; near names are suggested.
    """
    if others := outside(name):
        return dict(others.facts(name))
    known = table()
    if name not in known:
        near = get_close_matches(name, known, 3, 0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "`opsin list` shows them all."
        raise UnknownName(f"no network is called {name!r}; {hint}")
    return dict(known[name])


def capabilities(name: str) -> dict[str, Any]:
    """What a network can be asked for, known before building.

    `arguments`: the keywords its builder takes; `output_stride`, `pool`: the values it accepts; `multiple`: what input
    sides must be divisible by; `native`: the side in pixels its published weights use; `strides`: of its stages.

    Raises:
        UnknownName: no such network; near names are suggested.
    """
    known = facts(name)
    return {key: known[key] for key in ("arguments", "output_stride", "pool", "multiple", "native", "strides")}


def builder(name: str) -> tuple[Builder, dict[str, Any]]:
    """The function that builds a network, and its variant's arguments."""
    if name not in BUILDERS:
        import_module(f"opsin.families.{facts(name)['family']}")
    return BUILDERS[name]


def arguments(build: Builder) -> list[str]:
    return list(inspect.signature(build).parameters)


def input_channels(name: str | None) -> int:
    """Channels of the images that a network reads unless told otherwise: three, or what its variant says."""
    return int(builder(name)[1].get("in_chans", 3)) if name in table() else 3


def output_strides(told: Mapping[str, Any], strides: list[int]) -> list[int]:
    last = strides[-1]
    return [last, *(s for s in (16, 8) if s < last)] if told["dilates"] else [last]


def operator(call: str | Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """`"gnconv(order=3)"` -> a constructor awaiting its dim. Anything callable is returned as it is.

    Raises:
        UnknownName: no such operator.
        UnsupportedArgument: text that is not a call with literal keyword arguments.
    """
    if callable(call):
        return call
    name, settings = parse_call(call)
    import_module("opsin.operators")  # fills the table
    if name not in OPERATORS:
        near = get_close_matches(name, OPERATORS, 3, 0.5)
        raise UnknownName(f"no operator is called {name!r}; there are {', '.join(near or sorted(OPERATORS))}")
    return functools.partial(OPERATORS[name], **settings)


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """`"name(key=literal, ...)"` -> (name, {key: literal}); nothing is evaluated but literals."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            settings = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg}
            if len(settings) == len(node.keywords):  # none unpacked from a dictionary, none twice
                return node.func.id, settings
    except (SyntaxError, ValueError):
        pass
    raise UnsupportedArgument(f"{text!r} is not a call like name(key=value): keywords and plain values only")


def rounded(channels: float, divisor: int = 8, floor: float = 0.9) -> int:
    """The multiple of `divisor` nearest to a scaled channel count, never below `floor` of it."""
    nearest = max(divisor, math.floor(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < floor * channels else nearest
