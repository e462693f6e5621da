"""The selective scan as few whole-tensor operators, for files that other runtimes read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64


def doubled(u: Tensor, step: Tensor, a: Tensor, b: Tensor, c: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """`selective_scan.scan` by doubling: after pass i every place knows the 2^i places before it.

    About six passes inside chunks of 64 places and one for each doubling of the chunks, in place of L steps; that costs
    some ten times the work of the recurrence, and all states at once in memory.
    """
    length, chunk = u.shape[1], min(CHUNK, u.shape[1])
    missing = -length % chunk
    u, step, b, c = (F.pad(x, (0, 0, 0, missing)).unflatten(1, (-1, chunk)) for x in (u, step, b, c))
    decay = (step[:, :, :, None] * a[:, None, None]).exp()  # (S, K, Q, N, W)
    decay, h = prefixes(decay, (step * u)[:, :, :, None] * b[..., None], 2)
    spans, made = prefixes(decay[:, :, -1], h[:, :, -1], 1)
    made = made + spans * start[:, None]
    before = torch.cat([start[:, None], made[:, :-1]], 1)
    h = h + decay * before[:, :, None]
    y = (h * c[..., None]).sum(3).flatten(1, 2)[:, :length]
    return y, made[:, -1]


def prefixes(decay: Tensor, h: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Along a dimension, the products of all decays so far and the states from zero so far."""
    length, reach = h.shape[dim], 1
    while reach < length:
        shift = [0, 0] * (h.ndim - 1 - dim) + [reach, 0]
        h = h + decay * F.pad(h, shift).narrow(dim, 0, length)
        decay = decay * F.pad(decay, shift, value=1.0).narrow(dim, 0, length)
        reach *= 2
    return decay, h
