"""From a registered name and its builder's arguments to a network with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from .blocks.dilate import dilate
from .blocks.graft import grafted
from .blocks.network import Network
from .blocks.pooling import pool
from .registry import ABOUT, Builder, UnsupportedArgument, arguments, builder, output_strides, outside

FINISHED = ("output_stride", "pool", "graft")  # keywords that the finished network answers, not its builder


def build(name: str, **given: Any) -> Network:
    """A new network with random weights; `given` are its builder's keywords, `output_stride`, `pool` and `graft`.

    Raises:
        UnknownName: no such network.
        UnsupportedArgument: a keyword or a value that this network cannot mean.
    """
    wanted = given.pop("graft", ())
    if others := outside(name):
        theirs: Network = others.build(name, **given)
        return grafted(theirs, wanted)
    make, variant = builder(name)
    check_arguments(name, make, given)
    net: Network = make(**{**variant, **{k: v for k, v in given.items() if k not in FINISHED}})
    if "pool" in given:
        pool(net, name, given["pool"])
    if "output_stride" in given:
        allowed, stride = output_strides(ABOUT[name], net.backbone.strides), given["output_stride"]
        if stride not in allowed:
            raise UnsupportedArgument(f"{name} has output_stride {' or '.join(map(str, allowed))}, not {stride!r}")
        dilate(net, int(stride))
    net.config = {"architecture": name, "arguments": dict(given), "widths": {}}
    return grafted(net, wanted)


def check_arguments(name: str, make: Builder, given: Mapping[str, Any]) -> None:
    """Refuse keywords that the builder does not take, and values of the shared ones that mean nothing."""
    allowed = [*arguments(make), *FINISHED]
    for key in given:
        if key not in allowed:
            near = get_close_matches(key, allowed, 2, 0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it takes {', '.join(allowed)}."
            raise UnsupportedArgument(f"{name} takes no argument {key!r}; {hint}")
    for key, least in (("num_classes", 0), ("in_chans", 1)):
        if key in given and not (is_number(given[key], int) and given[key] >= least):
            raise UnsupportedArgument(f"{key} must be a whole number of at least {least}, not {given[key]!r}")
    for key in ("drop_rate", "drop_path_rate"):
        if key in given and not (is_number(given[key], (int, float)) and 0 <= given[key] < 1):
            raise UnsupportedArgument(f"{key} is a probability: from 0 up to, not including, 1; not {given[key]!r}")


def is_number(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)  # True would pass for 1
