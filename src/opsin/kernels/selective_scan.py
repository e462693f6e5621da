"""The selective scan (S6) of the Mambas. Gu & Dao, 2023, arXiv:2312.00752

`selective_scan` takes what the papers name; `scan` is the recurrence alone, in the layout in which it runs. Numba makes
it fast on a CPU (`pip install "opsin[scan]"`); without it, in float64 and elsewhere torch does it, in chunks where
places have few states. `selective_scan.backend` says which of them float32 on a CPU takes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import scan_steps, scan_torch
from .doubling import doubled

MANY = 1 << 12  # states a place from which torch is faster place by place; in chunks that many leave the cache
_written_out: ContextVar[bool] = ContextVar("written_out", default=False)


@contextmanager
def written_out() -> Iterator[None]:
    """Scans inside are traced as whole-tensor operators (`doubling`) that other runtimes know, not as one of ours."""
    token = _written_out.set(True)
    try:
        yield
    finally:
        _written_out.reset(token)


@functools.cache
def backend() -> str:
    """ "numba" if it is installed and works, else "torch"."""
    if find_spec("numba") is None:
        return "torch"
    try:
        from . import scan_numba  # noqa: F401
    except ImportError:  # of another numpy or Python than Numba knows
        return "torch"
    return "numba"


def implementation(a: Tensor) -> ModuleType:
    """What runs the recurrences of decay rates A (S, N, W)."""
    if a.dtype == torch.float32 and a.device.type == "cpu" and backend() == "numba":
        from . import scan_numba

        return scan_numba
    return scan_torch if a.numel() < MANY else scan_steps


@torch.library.custom_op("opsin::scan", mutates_args=())
def scan_op(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    made = implementation(a).forward(*(x.detach().contiguous() for x in (u, step, a, b, c, start)))
    return tuple(x.contiguous() for x in made)


@scan_op.register_fake
def _(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    chunk = min(scan_torch.CHUNK, u.shape[1])
    marks = start.new_empty(start.shape[0], -(-u.shape[1] // chunk), *start.shape[1:])
    return torch.empty_like(u, memory_format=torch.contiguous_format), torch.empty_like(start), marks


@torch.library.custom_op("opsin::scan_backward", mutates_args=())
def scan_backward_op(
    u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, marks: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    given = [x.detach().contiguous() for x in (u, step, a, b, c, marks, dy, dlast)]
    return tuple(x.contiguous() for x in implementation(a).backward(*given))


@scan_backward_op.register_fake
def _(
    u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, marks: Tensor, dy: Tensor, dlast: Tensor
) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (u, step, a, b, c, dlast))


def remember(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:5], output[2])


def differentiate(ctx: Any, dy: Tensor, dlast: Tensor, dmarks: Tensor) -> tuple[Tensor, ...]:
    return scan_backward_op(*ctx.saved_tensors, dy, dlast)


scan_op.register_autograd(differentiate, setup_context=remember)


@register_flop_formula(torch.ops.opsin.scan)
def _flops(u: Any, step: Any, a: Any, *rest: Any, **named: Any) -> int:
    """The field's rule, 9 a place, channel and state, which tables print beside multiply-accumulates: so twice here."""
    return 2 * 9 * math.prod(u) * a[1]


def scan(
    u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """h_t = exp(step_t A) h_{t-1} + step_t B_t u_t and y_t = sum over states of C_t h_t; returns y, the last states

    u and step (S, L, W), A (S, N, W), B and C (S, L, N), first states (S, N, W), zero if none. Sixteen-bit inputs are
    widened to float32. Memory is that of the inputs and of the states before every 64th place.
    """
    wide = torch.float64 if u.dtype == torch.float64 else torch.float32
    u, step, a, b, c = (x.to(wide) for x in (u, step, a, b, c))
    start = a.new_zeros(a.shape) if start is None else start.to(wide)
    if _written_out.get() or torch.onnx.is_in_onnx_export():
        return doubled(u, step, a, b, c, start)
    y, last, _ = scan_op(u, step, a, b, c, start)
    return y, last


def scan_kept(
    u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, kept: Tensor, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`scan` of the places `kept` (S, K), in rising order, alone: y (S, K, W), and the states behind the last place

    States go on decaying over places that are left out, as if those had been given u = 0: so positions keep their
    meaning where tokens are pruned, and the work is that of K places. After Zhan et al., 2024, arXiv:2409.18962.
    """
    length, index = u.shape[1], kept[..., None]
    gap = torch.searchsorted(kept.contiguous(), torch.arange(length, device=u.device).expand(len(u), -1).contiguous())
    pace = step.new_zeros(len(u), kept.shape[1] + 1, u.shape[2])
    pace = pace.scatter_add(1, gap[..., None].expand_as(step), step)  # of each kept place and those left out before it
    pace, tail = pace[:, :-1], pace[:, -1:]
    u, step, b, c = (x.gather(1, index.expand(-1, -1, x.shape[2])) for x in (u, step, b, c))
    y, last = scan(u * step / pace, pace, a, b, c, start)
    return y, (tail * a).exp() * last


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(y + D u) silu(z) of the S6 recurrence with steps softplus(delta + delta_bias), and the last states (B, D, N)

    u, delta and z (B, D, L), A (D, N), D and delta_bias (D), initial_state (B, D, N). B and C, each for itself: (D, N)
    constant, (B, N, L) for all channels, or (B, G, N, L) for G groups of neighbouring channels. The first output has
    u's dtype; the recurrence runs in float32, or in float64 where u has it.

    Raises:
        ValueError: B or C with groups that do not divide the channels.
    """
    wide = torch.float64 if u.dtype == torch.float64 else torch.float32
    batch, channels, length = u.shape
    step = delta.to(wide) if delta_bias is None else delta.to(wide) + delta_bias.to(wide)[:, None]
    step = F.softplus(step) if delta_softplus else step
    b, c = grouped(B, batch, channels, length), grouped(C, batch, channels, length)
    groups = math.lcm(b.shape[1], c.shape[1])
    b, c = (x.repeat_interleave(groups // x.shape[1], 1).flatten(0, 1).mT for x in (b, c))

    def sequences(x: Tensor) -> Tensor:
        return x.unflatten(1, (groups, -1)).flatten(0, 1).mT

    a = sequences(A.expand(batch, *A.shape))
    start = None if initial_state is None else sequences(initial_state)
    y, last = scan(sequences(u), sequences(step), a, b, c, start)
    y, last = (x.mT.unflatten(0, (batch, groups)).flatten(1, 2) for x in (y, last))
    y = y if D is None else y + D.to(wide)[:, None] * u
    return (y if z is None else y * F.silu(z.to(wide))).to(u.dtype), last


def grouped(x: Tensor, batch: int, channels: int, length: int) -> Tensor:
    """B or C in its general form (B, G, N, L)."""
    if x.ndim == 2:
        return x[None, :, :, None].expand(batch, -1, -1, length)
    x = x[:, None] if x.ndim == 3 else x
    if channels % x.shape[1]:
        raise ValueError(f"{x.shape[1]} groups do not divide {channels} channels: give B and C (B, G, N, L)")
    return x


selective_scan.backend = backend  # type: ignore[attr-defined]
