"""The selective scan compiled by Numba: vectors of channels, states kept in cache, threads over images and channels.

Layouts are those of `scan_torch`, contiguous and float32; A comes times log2(e). Plain threads run the tasks, so that
torch's setting of them counts and several callers do not meet in one pool.
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
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor

from .scan_torch import CHUNK

NARROWEST = 64  # channels a task: below, rows of memory are too short
LOG2E = math.log2(math.e)
LN2 = math.log(2)
C1, C2, C3, C4, C5, C6 = (np.float32(LN2**i / math.factorial(i)) for i in range(1, 7))
compiled = numba.njit(nogil=True, cache=True)


@intrinsic
def as_float(context: Any, bits: Any) -> Any:
    """The float32 that has these 32 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


@numba.njit(inline="always", fastmath=True)
def exp2(x: Any) -> Any:
    """2^x to 2e-7 for x in [-126, 126], clamped outside; branchless, so that loops over it become vectors."""
    x = min(max(x, np.float32(-126)), np.float32(126))
    biased = np.int32(x + np.float32(127.5))  # rounds: what is cut off is positive
    r = x - np.float32(np.int32(biased - np.int32(127)))
    power = np.float32(1) + r * (C1 + r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * C6)))))
    return power * as_float(np.int32(biased << np.int32(23)))  # type: ignore[call-arg]


rows = numba.njit(inline="never", nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp", "nnan", "ninf"})


@rows
def advance(pace: Any, drive: Any, a: Any, b: Any, c: Any, h: Any, y: Any) -> None:
    """One place of one state: h <- exp(step A) h + step u B, y <- y + C h."""
    for j in range(len(pace)):
        h[j] = exp2(pace[j] * a[j]) * h[j] + drive[j] * b
        y[j] += c * h[j]


@rows
def replay(pace: Any, drive: Any, a: Any, b: Any, before: Any, h: Any, decay: Any) -> None:
    """`advance` that keeps its decays."""
    for j in range(len(pace)):
        decay[j] = exp2(pace[j] * a[j])
        h[j] = decay[j] * before[j] + drive[j] * b


@rows
def retreat(
    dy: Any,
    pace: Any,
    drive: Any,
    a: Any,
    b: Any,
    c: Any,
    before: Any,
    h: Any,
    decay: Any,
    g: Any,
    da: Any,
    gb: Any,
    slope: Any,
) -> Any:
    """One place of one state backwards: what reaches it in g, then what leaves for the place before."""
    db = dc = np.float32(0)
    for j in range(len(dy)):
        here = g[j] + c * dy[j]
        db += here * drive[j]
        dc += h[j] * dy[j]
        gb[j] += here * b
        g[j] = here * decay[j]
        steep = g[j] * before[j]
        slope[j] += steep * a[j]
        da[j] += steep * pace[j]
    return db, dc


@compiled
def forward_task(
    u: Any, step: Any, a2: Any, b: Any, c: Any, y: Any, h: Any, marks: Any,
    s: int, first: int, stop: int, piece: int,
) -> None:  # fmt: skip
    """Channels [first, stop) of sequence s; `h` holds the first states and becomes the last."""
    drive = np.empty(stop - first, np.float32)
    for t in range(u.shape[1]):
        if t % CHUNK == 0:
            for n in range(a2.shape[1]):
                for j in range(first, stop):
                    marks[s, t // CHUNK, n, j] = h[s, n, j]
        pace, value, out = step[s, t, first:stop], u[s, t, first:stop], y[s, t, first:stop]
        for j in range(len(pace)):
            drive[j] = pace[j] * value[j]
        for n in range(a2.shape[1]):
            advance(pace, drive, a2[s, n, first:stop], b[s, t, n], c[s, t, n], h[s, n, first:stop], out)


@compiled
def backward_task(
    u: Any, step: Any, a2: Any, b: Any, c: Any, dy: Any, g: Any, marks: Any,
    du: Any, dstep: Any, da: Any, db: Any, dc: Any, s: int, first: int, stop: int, piece: int,
) -> None:  # fmt: skip
    """`g` holds what reaches the last states, then the first ones; db and dc have a row for each piece."""
    states, w = a2.shape[1], stop - first
    drive, gb, slope = np.empty(w, np.float32), np.empty(w, np.float32), np.empty(w, np.float32)
    h, decay = np.empty((CHUNK + 1, states, w), np.float32), np.empty((CHUNK, states, w), np.float32)
    for k in range(marks.shape[1] - 1, -1, -1):
        for n in range(states):
            for j in range(w):
                h[0, n, j] = marks[s, k, n, first + j]
        start, many = k * CHUNK, min(u.shape[1] - k * CHUNK, CHUNK)
        for q in range(many):
            pace, value = step[s, start + q, first:stop], u[s, start + q, first:stop]
            for j in range(w):
                drive[j] = pace[j] * value[j]
            for n in range(states):
                replay(pace, drive, a2[s, n, first:stop], b[s, start + q, n], h[q, n], h[q + 1, n], decay[q, n])
        for q in range(many - 1, -1, -1):
            t = start + q
            pace, value, shown = step[s, t, first:stop], u[s, t, first:stop], dy[s, t, first:stop]
            for j in range(w):
                drive[j] = pace[j] * value[j]
                gb[j] = slope[j] = 0
            for n in range(states):
                db[piece, s, t, n], dc[piece, s, t, n] = retreat(
                    shown, pace, drive, a2[s, n, first:stop], b[s, t, n], c[s, t, n], h[q, n], h[q + 1, n],
                    decay[q, n], g[s, n, first:stop], da[s, n, first:stop], gb, slope,
                )  # fmt: skip
            for j in range(w):
                du[s, t, first + j] = pace[j] * gb[j]
                dstep[s, t, first + j] = value[j] * gb[j] + slope[j] * np.float32(LN2)


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
    size = max(NARROWEST, -(-width // wanted))
    return [(i, first, min(first + size, width)) for i, first in enumerate(range(0, width, size))]


def forward(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As in `scan_torch`."""
    y, last = torch.zeros_like(u), start.clone()
    marks = start.new_empty(len(u), -(-u.shape[1] // CHUNK), *start.shape[1:])
    arrays = [x.numpy() for x in (u, step, a * LOG2E, b, c, y, last, marks)]
    run(forward_task, arrays, cut(len(u), u.shape[2]))
    return y, last, marks


def backward(
    u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, marks: Tensor, dy: Tensor, g: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As in `scan_torch`."""
    pieces = cut(len(u), u.shape[2])
    g, du, dstep, da = g.clone(), torch.empty_like(u), torch.empty_like(u), torch.zeros_like(a)
    db, dc = b.new_empty(len(pieces), *b.shape), c.new_empty(len(pieces), *c.shape)
    arrays = [x.numpy() for x in (u, step, a * LOG2E, b, c, dy, g, marks, du, dstep, da, db, dc)]
    run(backward_task, arrays, pieces)
    return du, dstep, da, db.sum(0), dc.sum(0), g
