"""Published checkpoints under our names.

A table has one rule a line, `theirs -> ours`. `{b}` stands for a number, `{b+1}` on our side for that number shifted.
A name takes the first rule that fits its beginning; `theirs ->` drops it. Every name must find its place. Equal parts
of one tensor may go to several places, with `0` for a part of zeros.

    conv1            -> backbone.stem.0.conv
    layer{s}.{b}     -> backbone.stages.{s-1}.blocks.{b}
    attn.qkv.bias    -> mixer.q_bias | 0 | mixer.v_bias
    num_batches_tracked ->
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module

import torch
from torch import Tensor

from .errors import OpsinError

Fill = Callable[[re.Match[str]], str]


class ConversionError(OpsinError, KeyError):
    """A checkpoint whose names or shapes do not fit the network."""

    def __str__(self) -> str:
        return str(self.args[0])


def placed(names: Iterable[str], table: str) -> dict[str, str]:
    """Where each published name goes: {theirs: ours}, without those that the table drops.

    Raises:
        ConversionError: names for which the table has no rule; two names for one place.
    """
    rules = [rule(*line.split("->")) for line in table.strip().splitlines() if line.strip()]
    out: dict[str, str] = {}
    lost = []
    for name in names:
        hit, fill = next(((hit, fill) for pattern, fill in rules if (hit := pattern.match(name))), (None, None))
        if hit is None:
            lost.append(name)
        elif fill:
            out[name] = fill(hit) + name[hit.end() :]
    if lost:
        raise ConversionError(f"{len(lost)} names of the checkpoint fit no rule: {few(lost)}")
    if len(set(out.values())) < len(out):
        twice = [ours for ours in set(out.values()) if list(out.values()).count(ours) > 1]
        raise ConversionError(f"two published names for one of ours: {few(twice)}")
    return out


def rename(state: Mapping[str, Tensor], table: str) -> dict[str, Tensor]:
    """A published state dict under our names; see `placed` for what is raised."""
    out: dict[str, Tensor] = {}
    for theirs, ours in placed(state, table).items():
        names, whole = places(ours), state[theirs]
        parts = whole.chunk(len(names)) if len(names) > 1 else (whole,)
        out |= {name: part for name, part in zip(names, parts) if name != "0"}
    return out


def restore(state: Mapping[str, Tensor], names: Iterable[str], table: str) -> dict[str, Tensor]:
    """Our state dict under the published `names` (those of the authors' network): the inverse of `rename`."""
    return {theirs: joined(state, places(ours)) for theirs, ours in placed(names, table).items()}


def places(ours: str) -> list[str]:
    """The names that the parts of a published tensor go to; mostly one."""
    return [name.strip() for name in ours.split("|")]


def joined(state: Mapping[str, Tensor], names: list[str]) -> Tensor:
    if len(names) == 1:
        return state[names[0]]
    empty = torch.zeros_like(state[next(name for name in names if name != "0")])
    return torch.cat([empty if name == "0" else state[name] for name in names])


def tables(family: str) -> dict[str, str]:
    """The rename tables of a family file, by name: its constants in capitals that hold rules."""
    module = import_module(f"opsin.families.{family}")
    return {k: v for k, v in vars(module).items() if k.isupper() and isinstance(v, str) and "->" in v}


def rule(theirs: str, ours: str) -> tuple[re.Pattern[str], Fill | None]:
    theirs, ours = theirs.strip(), ours.strip()
    pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(theirs)) + r"(?=\.|$)")
    number = re.compile(r"\{(\w+)([+-]\d+)?\}")

    def fill(hit: re.Match[str]) -> str:
        return number.sub(lambda n: str(int(hit[n[1]]) + int(n[2] or 0)), ours)

    return pattern, fill if ours else None


def few(names: Iterable[str], most: int = 8) -> str:
    """The first names of a list and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
