"""Steps that can be run backwards: none of their activations need be kept. Gomez et al., 2017, arXiv:1707.04585

A step takes a state, some tensors, to the next one, and from the new state computes the old one again: the backward
pass starts from the last state alone and rebuilds what it needs on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

State = Sequence[Tensor]
Run = Callable[..., Tensor]


def plainly(part: nn.Module, *seen: Tensor) -> Tensor:
    made: Tensor = part(*seen)
    return made


class Step(nn.Module):
    """What can be run backwards: a step runs each of its parts by `run`, and takes none twice"""

    def forward(self, state: State, run: Run = plainly) -> State:
        """The new state."""
        raise NotImplementedError

    def back(self, again: Again, state: State, grads: State) -> tuple[State, State]:
        """The old state and its gradients, from those of the new one; `again` runs the parts and gathers weights'."""
        raise NotImplementedError


class Reversible(nn.Module):
    """A backbone of steps

    Training rebuilds activations in the backward pass, for about a third more time, as long as `reversible` is true:
    memory then does not grow with the number of steps. Only autograd through the backward pass itself needs it false.
    """

    reversible = True

    def through(self, steps: nn.ModuleList, state: State) -> State:
        if self.reversible and self.training and torch.is_grad_enabled():
            made: State = Rewind.apply(steps, len(state), *state, *steps.parameters())  # type: ignore[no-untyped-call]
            return made
        for step in steps:
            state = step(state)
        return state


class Rewind(torch.autograd.Function):
    """(steps, tensors of the state, *state, *weights) -> the state behind them, of which alone the way back starts"""

    @staticmethod
    def forward(ctx: Any, steps: Any, count: int, *given: Tensor) -> State:
        state: State = given[:count]
        device = state[0].device
        draws: dict[nn.Module, Any] = {}

        def run(part: nn.Module, *seen: Tensor) -> Tensor:
            draws[part] = drawing(device)
            return plainly(part, *seen)

        for step in steps:
            state = step(state, run)
        ctx.steps, ctx.count, ctx.cast, ctx.draws = steps, count, casting(device), draws
        ctx.save_for_backward(*state, *given[count:])
        return tuple(state)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        state: State = ctx.saved_tensors[: len(grads)]
        weights = iter(ctx.saved_tensors[len(grads) :])
        owned = [{name: next(weights) for name, _ in step.named_parameters()} for step in ctx.steps]
        found: list[Tensor] = []
        d: State = grads
        for step, own in zip(reversed(ctx.steps), reversed(owned)):
            again = Again(step, own, ctx.draws, ctx.cast)
            state, d = step.back(again, state, d)
            found = [*[again.found[name] for name in own], *found]
        return None, None, *d[: ctx.count], *found


class Again:
    """Runs parts of a step as they ran before, with the step's `weights`, whose gradients gather in `found`."""

    def __init__(
        self,
        step: nn.Module,
        weights: Mapping[str, Tensor],
        draws: Mapping[nn.Module, Any],
        cast: Callable[[], Any],
    ):
        self.step, self.weights, self.draws, self.cast = step, weights, draws, cast
        self.found: dict[str, Tensor] = {}

    @torch.enable_grad()
    def __call__(self, name: str, seen: State, grad: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What the named part makes of what it saw, and from that's gradient those of what it saw."""
        part, at = self.step.get_submodule(name), f"{name}."
        own = {k.removeprefix(at): w.detach().requires_grad_() for k, w in self.weights.items() if k.startswith(at)}
        statistics = {k: b.clone() for k, b in part.named_buffers()}  # those of norms have counted this batch already
        seen = [t.detach().requires_grad_() for t in seen]
        with drawn(self.draws[part], seen[0].device), self.cast():
            y = functional_call(part, {**own, **statistics}, tuple(seen))
        made = torch.autograd.grad(y, [*seen, *own.values()], grad.to(y.dtype))
        self.found |= {at + k: grad for k, grad in zip(own, made[len(seen) :])}
        return y.detach(), list(made[: len(seen)])


def casting(device: torch.device) -> Callable[[], Any]:
    """What makes the autocast of now again."""
    kind, on = device.type, torch.is_autocast_enabled(device.type)
    return partial(torch.autocast, kind, torch.get_autocast_dtype(kind), on) if on else nullcontext


def drawing(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Where the random numbers are, on the CPU and the device."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def drawn(at: tuple[Tensor, Tensor | None], device: torch.device) -> Iterator[None]:
    """Random numbers as they came from there, and afterwards as if they had not."""
    with torch.random.fork_rng([device] if at[1] is not None else []):
        torch.set_rng_state(at[0])
        if at[1] is not None:
            torch.cuda.set_rng_state(at[1], device)
        yield
