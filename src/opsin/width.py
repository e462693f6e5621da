"""Widths: channel counts that know which tensors they size.

    dim = Width(96, "dim")              # an int everywhere an int is wanted
    Concat(q, k, v)                     # laid end to end
    Groups(heads, head_dim)             # `heads` runs of `head_dim` neighbours

Layers built from one Width change together: `widths` lists them, `narrow` returns a thinner copy of a model, and
`slices` its tensors as selections from the thick one's, so that a small network can train a big one's weights.
Arithmetic on a Width gives a plain int, which ties nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import accumulate, chain, count, takewhile
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .errors import OpsinError

Keep = Mapping[str, "int | Sequence[int] | Tensor"]
Model = TypeVar("Model", bound=nn.Module)


class WidthError(OpsinError, ValueError):
    """A width that does not exist, or channels that it does not have."""


class Width(int):
    """A channel count with an identity: `Width(96, "dim")`."""

    name: str
    parts: tuple[Any, ...]

    def __new__(cls, size: int, name: str = "width") -> Width:
        self = super().__new__(cls, size)
        self.name, self.parts = name, ()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.parts or (int(self), self.name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Width:  # copies of a model share their widths
        return self

    def index(self, keep: Mapping[int, Tensor]) -> Tensor:
        """Positions, in a tensor of this width, of the channels that remain; `keep` maps id(atom) to kept indices."""
        return keep[id(self)] if id(self) in keep else torch.arange(int(self), device="cpu")


class Concat(Width):
    """Widths laid end to end: `Concat(a, b)` sizes `torch.cat([x_a, x_b])`."""

    def __new__(cls, *parts: int) -> Concat:
        self = int.__new__(cls, sum(parts))
        self.name, self.parts = "concat", parts
        return self

    def index(self, keep: Mapping[int, Tensor]) -> Tensor:
        starts = accumulate(self.parts, initial=0)
        return torch.cat([start + positions(part, keep) for start, part in zip(starts, self.parts)])


class Groups(Width):
    """`count` runs of `size` neighbouring channels: heads of an attention, groups of a convolution."""

    def __new__(cls, count: int, size: int) -> Groups:
        self = int.__new__(cls, count * size)
        self.name, self.parts = "groups", (count, size)
        return self

    def index(self, keep: Mapping[int, Tensor]) -> Tensor:
        count, size = self.parts
        return (positions(count, keep)[:, None] * int(size) + positions(size, keep)).flatten()


def each(*sizes: int, name: str = "dim") -> list[Width]:
    """One new Width a size, named dim1, dim2, ..."""
    return [Width(size, f"{name}{i}") for i, size in enumerate(sizes, 1)]


def same(a: int, b: int) -> bool:
    """Whether a residual may add channels of `a` to channels of `b`."""
    if isinstance(a, Width) and isinstance(b, Width):
        return a is b or (bool(a.parts) and type(a) is type(b) and all(map(same, a.parts, b.parts)) and a == b)
    return int(a) == int(b)


def positions(width: int, keep: Mapping[int, Tensor]) -> Tensor:
    return width.index(keep) if isinstance(width, Width) else torch.arange(width, device="cpu")


def atoms(width: Any) -> tuple[Width, ...]:
    """The widths that a (possibly composed) width is made of; none for a plain int."""
    if not isinstance(width, Width):
        return ()
    return tuple(chain.from_iterable(map(atoms, width.parts))) if width.parts else (width,)


# ---------------------------------------- tensors and their widths ----------------------------------------


def axes(m: nn.Module) -> dict[str, tuple[Any, ...]]:
    """The width of each leading dimension of each tensor a module owns.

    Modules with raw parameters say it themselves: `axes = {"table": (None, "heads")}` names the attributes.
    """
    told = getattr(m, "axes", None)
    if told is not None:
        return {name: tuple(getattr(m, a) if a else None for a in dims) for name, dims in told.items()}
    if isinstance(m, nn.Linear):
        return {"weight": (m.out_features, m.in_features), "bias": (m.out_features,)}
    if isinstance(m, nn.modules.conv._ConvTransposeNd):
        return {"weight": (m.in_channels, per_group(m.out_channels, m.groups)), "bias": (m.out_channels,)}
    if isinstance(m, nn.modules.conv._ConvNd):
        return {"weight": (m.out_channels, per_group(m.in_channels, m.groups)), "bias": (m.out_channels,)}
    if isinstance(m, nn.LayerNorm | nn.RMSNorm):
        return dict.fromkeys(("weight", "bias"), tuple(m.normalized_shape))
    if isinstance(m, nn.GroupNorm):
        return dict.fromkeys(("weight", "bias"), (m.num_channels,))
    if isinstance(m, nn.modules.batchnorm._NormBase):
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (m.num_features,))
    return {}


def per_group(channels: int, groups: int) -> Any:
    """The width of one group's share of a grouped convolution's channels."""
    if groups == 1:
        return channels
    if channels is groups or same(channels, groups):  # depthwise: one channel a group
        return None
    if isinstance(channels, Groups) and channels.parts[0] is groups:
        return channels.parts[1]
    if atoms(channels):
        raise WidthError(f"{int(channels)} channels in {int(groups)} groups: write Groups(groups, size) for them")
    return None


Owned = tuple[str, nn.Module, str, Tensor, list[tuple[int, Width]]]


def tensors(model: nn.Module, keep: Mapping[int, Tensor]) -> Iterator[Owned]:
    """(path, module, name, tensor, its dimensions touched by `keep`) for every parameter and buffer."""
    for path, m in model.named_modules():
        known = axes(m)
        for name, t in chain(m.named_parameters(recurse=False), m.named_buffers(recurse=False)):
            touched = [(d, w) for d, w in enumerate(known.get(name, ())) if any(id(a) in keep for a in atoms(w))]
            yield f"{path}.{name}".lstrip("."), m, name, t, touched


def widths(model: nn.Module) -> dict[str, Width]:
    """Every width a model can change, named by the smallest module that contains all its users."""
    users: dict[int, list[list[str]]] = {}
    found: dict[int, Width] = {}
    for path, m in model.named_modules():
        for a in chain.from_iterable(map(atoms, chain.from_iterable(axes(m).values()))):
            users.setdefault(id(a), []).append(path.split("."))
            found[id(a)] = a
    named: dict[str, Width] = {}
    for key, paths in users.items():
        shared = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, zip(*paths))]
        stem = ".".join([*filter(None, shared), found[key].name])
        numbered = chain([stem], (f"{stem}_{i}" for i in count(2)))
        named[next(name for name in numbered if name not in named)] = found[key]
    return named


def fixed(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Dimensions of parameters that belong to no Width: {parameter name: dimensions}, the first two of each at most."""
    out = {}
    for path, m in model.named_modules():
        known = axes(m)
        for name, t in m.named_parameters(recurse=False):
            dims = known.get(name, (None,) * min(t.ndim, 2))
            whole = (1,) if getattr(m, "groups", 1) > 1 else ()  # a convolution's groups stay as wide as they are
            free = tuple(d for d, w in enumerate(dims) if not atoms(w) and t.shape[d] > 1 and d not in whole)
            if free:
                out[f"{path}.{name}".lstrip(".")] = free
    return out


# ------------------------------------------- thinner networks -------------------------------------------


def slices(model: nn.Module, keep: Keep) -> dict[str, Tensor]:
    """State of the network that keeps only the given channels of the named widths, as differentiable selections.

    `keep` maps names of `widths(model)` to the indices that stay, or to a number: that many, from the first.
    Hand the result to `torch.func.functional_call` with a `narrow` copy: a small network then trains the big one's
    weights. Runs of neighbours are views, anything else is gathered.

    Raises:
        WidthError: a name the model does not have, or indices outside the width.
    """
    chosen = resolve(model, keep)
    return {path: select(t, touched, chosen) for path, _, _, t, touched in tensors(model, chosen)}


def narrow(model: Model, keep: Keep) -> Model:
    """A copy of the model that has only those channels (`keep` as in `slices`).

    Raises:
        WidthError: a name the model does not have, or indices outside the width.
    """
    model = copy.deepcopy(model)
    chosen = resolve(model, keep)
    memo: dict[int, Any] = {}
    for _, m, name, t, touched in list(tensors(model, chosen)):
        if touched:
            new = select(t.detach(), touched, chosen).clone()
            setattr(m, name, nn.Parameter(new, t.requires_grad) if name in m._parameters else new)
    for m in model.modules():
        for name, value in vars(m).items():
            if not name.startswith("_"):
                vars(m)[name] = shrunk(value, chosen, memo)
    return model


def select(t: Tensor, touched: Iterable[tuple[int, Width]], keep: Mapping[int, Tensor]) -> Tensor:
    for d, w in touched:
        chosen = w.index(keep)
        first, many = int(chosen[0]), len(chosen)
        run = int(chosen[-1]) - first + 1 == many and bool((chosen.diff() == 1).all())
        t = t.narrow(d, first, many) if run else t.index_select(d, chosen.to(t.device))
    return t


def resolve(model: nn.Module, keep: Keep) -> dict[int, Tensor]:
    named = widths(model)
    out = {}
    for name, chosen in keep.items():
        if name not in named:
            near = get_close_matches(name, named, 3, 0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "opsin.width.widths(model) lists them."
            raise WidthError(f"this network has no width called {name!r}; {hint}")
        size = int(named[name])
        idx = indices(chosen)
        if idx is None or int(idx.min()) < 0 or int(idx.max()) >= size or idx.unique().numel() != idx.numel():
            raise WidthError(f"{name} has {size} channels: keep between 1 and {size} different ones, not {chosen!r}")
        out[id(named[name])] = idx
    return out


def indices(chosen: Any) -> Tensor | None:
    """Kept positions from a list of them or a number; None for what is neither, or nothing."""
    if isinstance(chosen, int) and not isinstance(chosen, bool):
        return torch.arange(chosen, device="cpu") if chosen > 0 else None
    try:
        idx = torch.as_tensor(chosen, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        return None
    whole = not (idx.is_floating_point() or idx.is_complex() or idx.dtype == torch.bool)
    return idx.cpu().long() if idx.ndim == 1 and idx.numel() and whole else None


def shrunk(value: Any, keep: Mapping[int, Tensor], memo: dict[int, Any]) -> Any:
    """An attribute with every Width in it replaced by the one that remains."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(shrunk(v, keep, memo) for v in value)
    if not any(id(a) in keep for a in atoms(value)):
        return value
    if id(value) not in memo:
        parts = shrunk(value.parts, keep, memo)
        memo[id(value)] = type(value)(*parts) if parts else Width(len(keep[id(value)]), value.name)
    return memo[id(value)]
