"""State space duality (SSD), Mamba-2's scan, as matrix products. Dao & Gu, 2024, arXiv:2405.21060"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 64


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    initial_states: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(y + D x) silu(z) with S_t = exp(d_t A) S_{t-1} + d_t x_t B_t^T and y_t = S_t C_t; and the last S (B, H, P, N)

    d = softplus(dt + dt_bias) clamped to `dt_limit`. x and z (B, L, H, P), dt (B, L, H), A and dt_bias (H), D (H) or
    (H, P), B and C (B, L, G, N) for G groups of neighbouring heads, initial_states as the last ones. Runs in float32,
    or float64 where x has it; the first output has x's dtype. The backward pass computes everything anew.
    """
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    step = dt.to(wide) if dt_bias is None else dt.to(wide) + dt_bias.to(wide)
    step = (F.softplus(step) if dt_softplus else step).clamp(*dt_limit)
    start = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1], dtype=wide) if initial_states is None else initial_states
    given = [t.to(wide) for t in (x, step, A, B, C, start)]
    again = torch.is_grad_enabled() and not torch.compiler.is_exporting() and any(t.requires_grad for t in given)
    y, last = checkpoint(chunks, *given, use_reentrant=False) if again else chunks(*given)
    y = y if D is None else y + (D if D.ndim == 2 else D[:, None]).to(wide) * x
    return (y if z is None else y * F.silu(z.to(wide))).to(x.dtype), last


def chunks(x: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Inside a chunk all pairs of places meet in a matrix; between chunks states are handed on."""
    length, groups, chunk = x.shape[1], b.shape[2], min(CHUNK, x.shape[1])
    x, step, b, c = (padded(t, chunk) for t in (x, step, b, c))  # (B, K, Q, ...); steps of zero change no state
    each = x.shape[3] // groups
    b, c = (t.movedim(3, 2).repeat_interleave(each, 2) for t in (b, c))  # (B, K, H, Q, N)
    made = (step[..., None] * x).movedim(3, 2)  # (B, K, H, Q, P)
    total = (step * a).cumsum(2).movedim(3, 2)  # (B, K, H, Q)
    apart = total[..., :, None] - total[..., None, :]
    later = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril()
    y = ((c @ b.mT) * apart.masked_fill(~later, -math.inf).exp()) @ made
    new = made.mT @ (b * (total[..., -1:] - total).exp()[..., None])  # (B, K, H, P, N)
    span, before = total[..., -1].exp()[..., None, None], []
    for k in range(x.shape[1]):
        before.append(start)
        start = span[:, k] * start + new[:, k]
    y = y + total.exp()[..., None] * (c @ torch.stack(before, 1).mT)
    return y.movedim(2, 3).flatten(1, 2)[:, :length], start


def padded(t: Tensor, chunk: int) -> Tensor:
    missing = -t.shape[1] % chunk
    return F.pad(t, [0, 0] * (t.ndim - 2) + [0, missing]).unflatten(1, (-1, chunk))
