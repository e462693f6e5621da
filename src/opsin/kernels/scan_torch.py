"""The selective scan in torch alone: all chunks of all sequences step together, then hand their states on.

u and step are (S, L, W), A (S, N, W), B and C (S, L, N), states (S, N, W). Only the states before every chunk are
kept; the backward pass finds the others again. Decays are multiplied, never divided.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64
TOGETHER = 1 << 15  # states a step, so that a step is worth its call and a segment stays in cache


def forward(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y (S, L, W), the last states (S, N, W), and the states before every chunk (S, K, N, W)."""
    length = u.shape[1]
    u, step, b, c = map(chunked, (u, step, b, c))
    y, marks = torch.empty_like(u), start.new_empty(len(u), u.shape[1], *start.shape[1:])
    for s in segments(u, a.shape[1]):
        decay, drive = moves(u[:, s], step[:, s], a, b[:, s])
        if drive.shape[1] > 1:
            marks[:, s], start = carried(spans(step[:, s], a), ending(decay, drive), start)
            h = through(decay, drive, marks[:, s])
        else:
            marks[:, s] = start[:, None]
            h = through(decay, drive, marks[:, s])
            start = h[:, -1, -1].clone()
        y[:, s] = h.mul_(c[:, s, :, :, None]).sum(3)
    return y.flatten(1, 2)[:, :length], start, marks


def backward(
    u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, marks: Tensor, dy: Tensor, g: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, step, A, B, C and the first states, from those of y and the last states `g`."""
    length = u.shape[1]
    u, step, b, c, dy = map(chunked, (u, step, b, c, dy))
    du, dstep, db, dc = map(torch.empty_like, (u, step, b, c))
    da = torch.zeros_like(a)
    for s in reversed(segments(u, a.shape[1])):
        decay, drive = moves(u[:, s], step[:, s], a, b[:, s])
        h = through(decay, drive, marks[:, s])
        shown = dy[:, s, :, None]
        dc[:, s] = (h * shown).sum(-1)
        reach, g = adjoint(decay, shown * c[:, s, :, :, None], spans(step[:, s], a), g)
        arrived = (reach * b[:, s, :, :, None]).sum(3)
        db[:, s] = (reach * (step[:, s] * u[:, s])[:, :, :, None]).sum(-1)
        slope = torch.cat([marks[:, s, None], h[:, :, :-1]], 2).mul_(decay).mul_(reach)
        da += (slope * step[:, s, :, None]).sum((1, 2))
        du[:, s] = step[:, s] * arrived
        dstep[:, s] = torch.addcmul((slope * a[:, None, None]).sum(3), u[:, s], arrived)
    du, dstep, db, dc = (x.flatten(1, 2)[:, :length] for x in (du, dstep, db, dc))
    return du, dstep, da, db, dc, g


def chunked(x: Tensor) -> Tensor:
    """(S, L, ...) in whole chunks (S, K, Q, ...); steps of zero at the end change no state."""
    chunk = min(CHUNK, x.shape[1])
    missing = -x.shape[1] % chunk
    return (F.pad(x, (0, 0, 0, missing)) if missing else x).unflatten(1, (-1, chunk))


def segments(u: Tensor, states: int) -> list[slice]:
    """Runs of chunks (S, K, Q, W) that are worked on together."""
    many = max(1, TOGETHER // (u.shape[0] * states * u.shape[-1]))
    return [slice(k, min(k + many, u.shape[1])) for k in range(0, u.shape[1], many)]


def moves(u: Tensor, step: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Decays exp(step A) and drives step B u of chunks, (S, K, Q, N, W)."""
    return (step[:, :, :, None] * a[:, None, None]).exp_(), (step * u)[:, :, :, None] * b[..., None]


def spans(step: Tensor, a: Tensor) -> Tensor:
    """By how much whole chunks let states decay (S, K, N, W)."""
    return (step.sum(2)[:, :, None] * a[:, None]).exp_()


def through(decay: Tensor, drive: Tensor, start: Tensor) -> Tensor:
    """h_q = decay_q h_{q-1} + drive_q along dimension 2, in place of `drive`."""
    for q in range(drive.shape[2]):
        start = drive[:, :, q].addcmul_(decay[:, :, q], start)
    return drive


def ending(decay: Tensor, drive: Tensor) -> Tensor:
    """The last h of `through` from zero."""
    h = drive[:, :, 0].clone()
    for q in range(1, drive.shape[2]):
        h.mul_(decay[:, :, q]).add_(drive[:, :, q])
    return h


def carried(span: Tensor, made: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """The states before every chunk, from what each makes of zero and lets remain of others; then the last."""
    before = []
    for k in range(made.shape[1]):
        before.append(start)
        start = torch.addcmul(made[:, k], span[:, k], start)
    return torch.stack(before, 1), start


def adjoint(decay: Tensor, g: Tensor, span: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """g_q + decay_{q+1} g_{q+1} along dimension 2, in place of g, and what reaches the states before the first place

    `after` reaches the states behind the last place.
    """
    many = g.shape[2]
    made = g[:, :, -1].clone()
    for q in range(many - 2, -1, -1):
        made.mul_(decay[:, :, q + 1]).add_(g[:, :, q])
    behind, first = carried(span.flip(1), made.mul_(decay[:, :, 0]).flip(1), after)
    g[:, :, -1] += behind.flip(1)
    for q in range(many - 2, -1, -1):
        g[:, :, q].addcmul_(decay[:, :, q + 1], g[:, :, q + 1])
    return g, first
