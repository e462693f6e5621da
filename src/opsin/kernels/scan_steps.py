"""The selective scan in torch alone, one place at a time: for so many states a place that a step is worth its calls.

Layouts are those of `scan_torch`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .scan_torch import CHUNK


def forward(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As in `scan_torch`."""
    h, y, marks = start, [], []
    for t, (pace, drive, b_t, c_t) in enumerate(places(*across(step, step * u), *down(b, c))):
        if t % CHUNK == 0:
            marks.append(h)
        h = torch.addcmul(drive * b_t, (pace * a).exp_(), h)
        y.append((h * c_t).sum(1))
    return torch.stack(y, 1), h, torch.stack(marks, 1)


def backward(
    u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, marks: Tensor, dy: Tensor, g: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As in `scan_torch`."""
    arrived, slope, db, dc, da = [], [], [], [], torch.zeros_like(a)
    given = [*across(step, step * u, dy), *down(b, c)]
    for k in reversed(range(marks.shape[1])):
        here = list(places(*(x[:, k * CHUNK : (k + 1) * CHUNK] for x in given)))
        h, decays = [marks[:, k]], [(pace * a).exp_() for pace, *_ in here]
        for (_, drive, _, b_t, _), decay in zip(here, decays):
            h.append(torch.addcmul(drive * b_t, decay, h[-1]))
        for pace, drive, dy_t, b_t, c_t in reversed(here):
            dc.append((h.pop() * dy_t).sum(-1))
            g = torch.addcmul(g, c_t, dy_t)
            db.append((g * drive).sum(-1))
            arrived.append((g * b_t).sum(1))
            g = g * decays.pop()
            steep = g * h[-1]
            slope.append((steep * a).sum(1))
            da.addcmul_(steep, pace)
    reach, slopes, db_, dc_ = (torch.stack(x[::-1], 1) for x in (arrived, slope, db, dc))
    return step * reach, slopes.addcmul_(u, reach), da, db_, dc_, g


def across(*channels: Tensor) -> Iterator[Tensor]:
    """(S, L, W) as (S, L, 1, W)."""
    return (x[:, :, None] for x in channels)


def down(*states: Tensor) -> Iterator[Tensor]:
    """(S, L, N) as (S, L, N, 1)."""
    return (x[..., None] for x in states)


def places(*given: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """What there is at each place; cheaper than an index at every one."""
    return zip(*(x.unbind(1) for x in given))
