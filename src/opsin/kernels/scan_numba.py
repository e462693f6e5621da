"""The selective scan compiled by Numba: vectors of channels, states kept in cache, threads over images and channels.

Layouts are those of `scan_torch`, contiguous and float32, W a multiple of `LANES`; A comes times log2(e). Plain threads
run the tasks, so that torch's setting of them counts and several callers do not meet in one pool.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .scan_torch import CHUNK
from .vector import LANES, exp2, load, prefetch, spread, store, total

BLOCK = 4 * LANES  # channels that go through a sequence together: their states and decay rates stay in the first cache
AHEAD = 8  # places before they are needed, inputs are asked for: rows lie too far apart for processors to guess
LOG2E = math.log2(math.e)
LN2 = np.float32(math.log(2))
compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


@compiled
def forward_task(
    u: Any, step: Any, a2: Any, b: Any, c: Any, y: Any, last: Any, marks: Any,
    s: int, first: int, stop: int, piece: int,
) -> None:  # fmt: skip
    """Channels [first, stop) of sequence s; `last` holds the first states and becomes the last."""
    states = a2.shape[1]
    h, a = np.empty((states, BLOCK), np.float32), np.empty((states, BLOCK), np.float32)
    for left in range(first, stop, BLOCK):
        lanes = range(0, min(BLOCK, stop - left), LANES)
        for n in range(states):
            for j in lanes:
                store(h, (n, j), load(last, (s, n, left + j)))
                store(a, (n, j), load(a2, (s, n, left + j)))
        for t in range(u.shape[1]):
            if t % CHUNK == 0:
                for n in range(states):
                    for j in lanes:
                        store(marks, (s, t // CHUNK, n, left + j), load(h, (n, j)))
            for j in lanes:
                prefetch(step, (s, t + AHEAD, left + j))
                prefetch(u, (s, t + AHEAD, left + j))
                pace, shown = load(step, (s, t, left + j)), spread(np.float32(0))
                drive = pace * load(u, (s, t, left + j))
                for n in range(states):
                    here = exp2(pace * load(a, (n, j))) * load(h, (n, j)) + drive * spread(b[s, t, n])
                    store(h, (n, j), here)
                    shown = shown + here * spread(c[s, t, n])
                store(y, (s, t, left + j), shown)
        for n in range(states):
            for j in lanes:
                store(last, (s, n, left + j), load(h, (n, j)))


@compiled
def backward_task(
    u: Any, step: Any, a2: Any, b: Any, c: Any, dy: Any, g: Any, marks: Any,
    du: Any, dstep: Any, da: Any, db: Any, dc: Any, s: int, first: int, stop: int, piece: int,
) -> None:  # fmt: skip
    """`g` holds what reaches the last states, then the first ones; db and dc, sums so far, a row for each piece."""
    states = a2.shape[1]
    h, decay = np.empty((CHUNK + 1, states, LANES), np.float32), np.empty((CHUNK, states, LANES), np.float32)
    for j in range(first, stop, LANES):
        for k in range(marks.shape[1] - 1, -1, -1):
            start, many = k * CHUNK, min(u.shape[1] - k * CHUNK, CHUNK)
            replay(step, u, a2, b, marks, h, decay, s, j, k, many)
            for q in range(many - 1, -1, -1):
                t = start + q
                prefetch(dy, (s, max(t - AHEAD, 0), j))
                pace, value, shown = load(step, (s, t, j)), load(u, (s, t, j)), load(dy, (s, t, j))
                drive = pace * value
                arrived = slope = spread(np.float32(0))
                for n in range(states):
                    here = load(g, (s, n, j)) + spread(c[s, t, n]) * shown
                    db[piece, s, t, n] += total(here * drive)
                    dc[piece, s, t, n] += total(load(h, (q + 1, n, 0)) * shown)
                    arrived = arrived + here * spread(b[s, t, n])
                    before = here * load(decay, (q, n, 0))
                    store(g, (s, n, j), before)
                    steep = before * load(h, (q, n, 0))
                    slope = slope + steep * load(a2, (s, n, j))
                    store(da, (s, n, j), load(da, (s, n, j)) + steep * pace)
                store(du, (s, t, j), pace * arrived)
                store(dstep, (s, t, j), value * arrived + slope * spread(LN2))


@compiled
def replay(
    step: Any, u: Any, a2: Any, b: Any, marks: Any, h: Any, decay: Any, s: int, j: int, k: int, many: int
) -> None:
    """The states (many + 1, N, LANES) and decays of chunk k anew, channels from j on."""
    for n in range(a2.shape[1]):
        store(h, (0, n, 0), load(marks, (s, k, n, j)))
    for q in range(many):
        t = k * CHUNK + q
        prefetch(step, (s, t + AHEAD, j))
        prefetch(u, (s, t + AHEAD, j))
        pace = load(step, (s, t, j))
        drive = pace * load(u, (s, t, j))
        for n in range(a2.shape[1]):
            left = exp2(pace * load(a2, (s, n, j)))
            store(decay, (q, n, 0), left)
            store(h, (q + 1, n, 0), left * load(h, (q, n, 0)) + drive * spread(b[s, t, n]))


@cache
def threads(many: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(many, "scan")


def run(task: Callable[..., None], arrays: list[Any], pieces: list[tuple[int, int, int]]) -> None:
    """Every piece of every sequence, (number, first, stop) each."""
    many = torch.get_num_threads()
    tasks = [(s, first, stop, piece) for s in range(len(arrays[0])) for piece, first, stop in pieces]
    if many == 1 or len(tasks) == 1:
        for where in tasks:
            task(*arrays, *where)
    else:
        list(threads(many).map(lambda where: task(*arrays, *where), tasks))


def cut(sequences: int, width: int) -> list[tuple[int, int, int]]:
    """Channels in as many pieces as keep all threads busy, (number, first, stop) each."""
    wanted = -(-torch.get_num_threads() // sequences)
    size = -(-width // (BLOCK * wanted)) * BLOCK
    return [(i, first, min(first + size, width)) for i, first in enumerate(range(0, width, size))]


def forward(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As in `scan_torch`."""
    width = u.shape[2]
    u, step, a, start = filled(u, step, a * LOG2E, start)
    y, last = torch.empty_like(u), start.clone()
    marks = start.new_empty(len(u), -(-u.shape[1] // CHUNK), *start.shape[1:])
    run(forward_task, [x.numpy() for x in (u, step, a, b, c, y, last, marks)], cut(len(u), u.shape[2]))
    return y[..., :width], last[..., :width], marks[..., :width]


def backward(
    u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, marks: Tensor, dy: Tensor, g: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As in `scan_torch`."""
    width = u.shape[2]
    u, step, a, marks, dy, g = filled(u, step, a * LOG2E, marks, dy, g.clone())
    pieces = cut(len(u), u.shape[2])
    du, dstep, da = torch.empty_like(u), torch.empty_like(u), torch.zeros_like(a)
    db, dc = b.new_zeros(len(pieces), *b.shape), c.new_zeros(len(pieces), *c.shape)
    run(backward_task, [x.numpy() for x in (u, step, a, b, c, dy, g, marks, du, dstep, da, db, dc)], pieces)
    du, dstep, da, g = (x[..., :width] for x in (du, dstep, da, g))
    return du, dstep, da, db.sum(0), dc.sum(0), g


def filled(*given: Tensor) -> list[Tensor]:
    """Channels, the last axis, in whole vectors."""
    missing = -given[0].shape[-1] % LANES
    return [F.pad(x, (0, missing)) if missing else x for x in given]
