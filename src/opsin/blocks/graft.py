"""Other operators in finished networks: a body keeps its weights, and chosen parts of its blocks are swapped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import import_module
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import OpsinError
from ..layers import AverageDown
from ..registry import UnknownName, UnsupportedArgument, facts, operator, parse_call
from ..width import atoms, axes, narrow, same, widths
from .layouts import Alone, laid
from .network import Network
from .pooling import MAPS, leading, pool

Make = Callable[..., nn.Module]
LAYOUTS = {"tokens": (2, 15), "last": (2, 6, 10), "first": (2, 6, 10)}  # of a trial input, without its channels
Shape = tuple[int, ...]


@dataclass
class Slot:
    """A place for an operator: shapes in and out, whether it is told more than x, and the widths on both sides"""

    path: str
    before: Shape
    after: Shape
    told: bool
    dims: list[int] = field(default_factory=list)
    axis: list[int] = field(default_factory=list)

    @property
    def layout(self) -> str:
        return "tokens" if len(self.before) == 3 else "first" if self.axis[0] == 1 else "last"


def graft(model: Network, where: str, call: str | Make) -> Network:
    """A copy of a network in which the modules called `where` are another operator, with all other weights kept.

    The new parts have random weights and take part in narrowing: they are built with the widths that they stand
    between. A strided slot, or one between two widths, gets a mean and a pointwise convolution behind the operator.
    Operators given as text are remembered in `model.config`, so that the network can be saved.

    Args:
        where: a wildcard pattern on module names, `"stages.2.*.mixer"` (`backbone.` may be left out), or "head.pool".
        call: an operator as text, `"attention(heads=4)"`, or a constructor awaiting its dim.

    Raises:
        UnknownName: no such modules or no such operator; near names are suggested.
        UnsupportedArgument: an operator that cannot stand there; the message says why.
    """
    paths = chosen(model, where)
    model = copy.deepcopy(model)
    arguments = model.config.setdefault("arguments", {})
    if paths == ["head.pool"] and isinstance(call, str) and parse_call(call)[0] in MAPS:
        pool(model, model.config.get("architecture", "this network"), call)
        arguments["pool"] = call
        return model
    make, name = operator(call), call if isinstance(call, str) else getattr(call, "__name__", "the operator")
    like = next(model.parameters())
    for slot in slots(model, paths):
        new = stand_in(model, slot, make, name).to(like.device, like.dtype)
        for p in new.parameters():
            if p.ndim == 4:
                p.data = p.data.contiguous(memory_format=torch.channels_last)
        parent, _, leaf = slot.path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, new.train(model.training))
    if isinstance(call, str):
        arguments["graft"] = [*arguments.get("graft", []), [where, call]]
    return model


def grafted(model: Network, wanted: Any) -> Network:
    """A network with all grafts of `wanted`: {where: operator} or a list of such pairs.

    Raises:
        UnsupportedArgument: anything else.
    """
    pairs = list(wanted.items()) if isinstance(wanted, Mapping) else wanted
    try:
        pairs = [(str(where), call) for where, call in pairs]
    except (TypeError, ValueError) as error:
        text = f"graft should be {{where: operator}} or pairs of them, not {wanted!r}"
        raise UnsupportedArgument(text) from error
    for where, call in pairs:
        model = graft(model, where, call)
    return model


def chosen(model: nn.Module, where: str) -> list[str]:
    """Names of the modules that fit a pattern, without those inside another one of them."""
    names = [path for path, _ in model.named_modules() if path]
    hits = [p for p in names if fnmatchcase(p, where) or fnmatchcase(p, f"backbone.{where}")]
    hits = [p for p in hits if not any(p.startswith(f"{other}.") for other in hits)]
    if not hits:
        near = get_close_matches(where, names, 3, 0.4)
        raise UnknownName(f"no module of this network is called {where!r}; there are {', '.join(near or names[:8])}")
    return hits


def stand_in(model: Network, slot: Slot, make: Make, name: str) -> nn.Module:
    """The operator, built with the slot's widths, in the slot's layout."""
    (cin, cout), layout = slot.dims, slot.layout
    places = [n for i, n in enumerate(slot.before) if i not in (0, slot.axis[0] % len(slot.before))]
    smaller = [n for i, n in enumerate(slot.after) if i not in (0, slot.axis[1] % len(slot.after))]
    stride = round(places[0] / smaller[0]) if places and len(places) == len(smaller) else 0
    changes = stride != 1 or not same(cin, cout)
    if slot.axis[0] != slot.axis[1] or not stride or (changes and layout != "first"):
        text = f"{slot.path} turns {slot.before} into {slot.after}: an operator keeps shapes, so that none fits there"
        raise UnsupportedArgument(text)
    try:
        op = make(cin)
        takes = import_module("opsin.operators").takes(make) or told_by_trial(op, cin)
        positions = getattr(model.backbone, "positions", None)
        front = leading(model.backbone) if getattr(model.backbone, "prefix", None) else 0
        new = laid(op, takes, layout, front, getattr(positions, "grid", None))
        if changes:
            new = nn.Sequential(new, AverageDown(stride) if stride > 1 else nn.Identity(), pointwise(cin, cout))
        new = Alone(new) if slot.told and not isinstance(new, Alone) else new
        made = tried(new, slot.before)
    except (OpsinError, RuntimeError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        text = f"{name} cannot stand at {slot.path}, with {int(cin)} channels: {error}"
        raise UnsupportedArgument(text) from error
    if made != slot.after:
        raise UnsupportedArgument(f"{name} makes {made} at {slot.path}, where {slot.after} is wanted")
    return new


def pointwise(cin: int, cout: int) -> nn.Module:
    return nn.Conv2d(cin, cout, 1, bias=False)


def tried(op: nn.Module, shape: Shape) -> Shape:
    """The shape that an operator makes of another, found without computing."""
    with torch.no_grad():
        made = copy.deepcopy(op).to("meta").eval()(torch.empty(shape, device="meta"))
    return tuple(made.shape) if isinstance(made, Tensor) else ()


def told_by_trial(op: nn.Module, dim: int) -> str:
    """The layout that a bare operator takes: the first in which it keeps a trial's shape."""
    for layout, sides in LAYOUTS.items():
        shape = (sides[0], dim, *sides[1:]) if layout == "first" else (*sides, dim)
        try:
            if tried(op, tuple(map(int, shape))) == tuple(map(int, shape)):
                return layout
        except (RuntimeError, ValueError, IndexError, TypeError):
            continue
    raise UnsupportedArgument("it keeps the shape neither of tokens nor of maps")


# ---------------------------------------- what stands where ----------------------------------------


def slots(model: Network, paths: Sequence[str]) -> list[Slot]:
    """What goes through the named modules, and the widths that it has there.

    Raises:
        UnsupportedArgument: a module that is not run, or makes something else than one tensor, or of unknown channels.
    """
    ghost = copy.deepcopy(model).to("meta").eval()
    seen = shapes(ghost, paths)
    lost = [path for path in paths if path not in seen]
    if lost:
        raise UnsupportedArgument(f"{lost[0]} is not handed one tensor to make one: no operator can stand there")
    found = [Slot(path, *seen[path]) for path in paths]
    trials: dict[int, dict[str, tuple[Shape, Shape, bool]]] = {}
    for slot in found:
        for side, shape in enumerate((slot.before, slot.after)):
            axis, dim = channels(ghost, slot.path, shape, side, trials, paths)
            slot.axis.append(axis)
            slot.dims.append(dim)
    return found


def shapes(ghost: Network, paths: Sequence[str]) -> dict[str, tuple[Shape, Shape, bool]]:
    """For each module its first input's and its output's shape, and whether it is handed more, from a run on meta."""
    seen: dict[str, tuple[Shape, Shape, bool]] = {}

    def watch(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Any, ...], made: Any) -> None:
            if given and isinstance(given[0], Tensor) and isinstance(made, Tensor):
                seen.setdefault(path, (tuple(given[0].shape), tuple(made.shape), len(given) > 1))

        return hook

    hooks = [ghost.get_submodule(path).register_forward_hook(watch(path)) for path in paths]
    arguments = ghost.config.get("arguments", {})
    size = arguments.get("img_size") or facts(ghost.config["architecture"])["native"]
    sides = (size, size) if isinstance(size, int) else tuple(size)
    with torch.no_grad():
        ghost(torch.empty(2, arguments.get("in_chans", 3), *sides, device="meta"))
    for hook in hooks:
        hook.remove()
    return seen


def channels(
    ghost: Network, path: str, shape: Shape, side: int, trials: dict[int, Any], paths: Sequence[str]
) -> tuple[int, int]:
    """The axis of the channels in a shape, and their width: the nearest one of that size that the shape follows.

    Of several widths of one size the right one is found by narrowing each and looking again.
    """
    for near in levels(ghost, path):
        hits = {(a, id(w)): (a, w) for a in ((1, -1) if len(shape) == 4 else (-1,)) for w in near if shape[a] == w}
        bare = {(a, int(w)): (a, w) for a, w in hits.values() if not atoms(w)}
        known = [(a, w) for a, w in hits.values() if atoms(w)]
        if len(known) > 1 or (known and bare):
            known = list(islice((k for k in known if follows(ghost, path, shape, side, *k, trials, paths)), 1))
        if known or len(bare) == 1:
            return (known or list(bare.values()))[0]
    raise UnsupportedArgument(f"it cannot be told which of {shape} at {path} are channels: no operator can stand there")


def levels(model: nn.Module, path: str) -> Iterator[list[int]]:
    """The widths inside a module, then those inside the one that it is a part of, and so on."""
    while True:
        yield [w for m in model.get_submodule(path).modules() for dims in axes(m).values() for w in dims if w]
        if not path:
            return
        path = path.rpartition(".")[0]


def follows(
    ghost: Network, path: str, shape: Shape, side: int, axis: int, width: Any, trials: dict[int, Any], paths: Any
) -> bool:
    """Whether the shape gets smaller along the axis when the width does."""
    atom = max(atoms(width), key=int)
    if id(atom) not in trials:
        name = next(name for name, w in widths(ghost).items() if w is atom)
        try:
            trials[id(atom)] = shapes(narrow(ghost, {name: max(1, int(atom) - 1)}), paths)
        except (OpsinError, RuntimeError, ValueError):
            trials[id(atom)] = {}
    seen = trials[id(atom)].get(path)
    return seen is not None and seen[side][axis] < shape[axis]
