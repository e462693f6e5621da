"""In which order a scan visits the places of a map: index plans, computed once a size and shared by all networks.

A plan lists places row by row (place = row * columns + column), one row of the plan for each route.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Places = NDArray[np.int64]


class Plan(NamedTuple):
    """`there` (K, M): the place of each step of K routes; `back` (R, L): the R steps, of all K M, that visit each place

    `undo` (K M) is the inverse of `back`. Every place is visited equally often: R is K where routes see all places,
    one where they share them out.
    """

    there: Places
    back: Places
    undo: Places


def plan(routes: list[Places]) -> Plan:
    there = np.stack(routes)
    flat = there.reshape(-1)
    places = int(flat.max()) + 1
    back = np.argsort(flat, kind="stable").reshape(places, -1).T
    return Plan(there, back, np.argsort(back, axis=None))


def raster(rows: int, columns: int) -> Places:
    return np.arange(rows * columns).reshape(rows, columns)


@cache
def cross(rows: int, columns: int) -> Plan:
    """Row by row, column by column, and both from the end. VMamba, arXiv:2401.10166"""
    at = raster(rows, columns)
    first = [at.reshape(-1), at.T.reshape(-1)]
    return plan([*first, *(route[::-1] for route in first)])


@cache
def forward_only(rows: int, columns: int) -> Plan:
    """Row by row, four times"""
    return plan([raster(rows, columns).reshape(-1)] * 4)


@cache
def both_ways(rows: int, columns: int) -> Plan:
    """Row by row, twice, and twice from the end"""
    at = raster(rows, columns).reshape(-1)
    return plan([at, at, at[::-1], at[::-1]])


@cache
def atrous(rows: int, columns: int) -> Plan:
    """Every other row and column, from four corners: two quarters row by row, two column by column. arXiv:2403.09977

    Both sides are even.
    """
    at = raster(rows, columns)
    quarters = [at[::2, ::2], at[1::2, ::2].T, at[::2, 1::2], at[1::2, 1::2].T]
    return plan([quarter.reshape(-1) for quarter in quarters])


@cache
def all_but_rows(rows: int, columns: int) -> Plan:
    """Row by row from the end, column by column, and that from the end, too"""
    at = raster(rows, columns)
    row, column = at.reshape(-1), at.T.reshape(-1)
    return plan([row[::-1], column, column[::-1]])


@cache
def two_ways(rows: int, columns: int) -> Plan:
    """Row by row, and from the end"""
    at = raster(rows, columns).reshape(-1)
    return plan([at, at[::-1]])


@cache
def single(rows: int, columns: int, route: int) -> Plan:
    """One route of `cross` alone"""
    return plan([cross(rows, columns).there[route]])


along_rows, along_columns, rows_back, columns_back = (partial(single, route=i) for i in range(4))


@cache
def snake(rows: int, columns: int) -> Plan:
    """Rows to and fro, that backwards, columns up and down, that backwards: each step goes to a neighbour

    PlainMamba, arXiv:2403.17695.
    """
    at = raster(rows, columns)
    routes = [folded(at), folded(at.T)]
    return plan([way for route in routes for way in (route, route[::-1])])


def folded(at: Places) -> Places:
    at = at.copy()
    at[1::2] = at[1::2, ::-1]
    return at.reshape(-1)


@cache
def windings(rows: int, columns: int) -> Plan:
    """Four snakes of a square map, one from each side: rows downwards and upwards, columns rightwards and leftwards

    LaMamba-Diff, arXiv:2408.02615.
    """
    at = raster(rows, columns)
    return plan([folded(side) for side in (at, at[::-1], at.T[:, ::-1], at.T[::-1, ::-1])])


START, RIGHT, LEFT, UP, DOWN = range(5)


@cache
def moves(rows: int, columns: int) -> Places:
    """For each step of `snake`, the move that led to it: none, right, left, up or down; (4, L)"""
    there = snake(rows, columns).there
    y, x = (np.diff(side, axis=1) for side in np.divmod(there, columns))
    made = np.select([x > 0, x < 0, y < 0, y > 0], [RIGHT, LEFT, UP, DOWN])
    return np.pad(made, ((0, 0), (1, 0)), constant_values=START)


class Take(torch.autograd.Function):
    """x[:, there] along places, whose gradient is taken back by the inverse plan"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor, times: int) -> Tensor:
        ctx.save_for_backward(back)
        ctx.times = times
        return x.index_select(1, there)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        (back,) = ctx.saved_tensors
        g = g.index_select(1, back)
        return (g.unflatten(1, (ctx.times, -1)).sum(1) if ctx.times > 1 else g), None, None, None


def take(x: Tensor, there: Places, back: Places, times: int) -> Tensor:
    index, inverse = (torch.from_numpy(np.ascontiguousarray(i).reshape(-1)).to(x.device) for i in (there, back))
    return x.index_select(1, index) if torch.compiler.is_exporting() else Take.apply(x, index, inverse, times)  # type: ignore[no-untyped-call]


def scattered(x: Tensor, order: Plan) -> Tensor:
    """Tokens (B, L, C) along every route (B, K, M, C)."""
    return take(x, order.there, order.back, len(order.back)).unflatten(1, order.there.shape)


def returned(x: Tensor, order: Plan) -> Tensor:
    """Routes (B, K, M, C) back in place, (B, R, L, C) of which each of R passes everywhere once."""
    return take(x.flatten(1, 2), order.back, order.undo, 1).unflatten(1, order.back.shape)


def gathered(x: Tensor, order: Plan) -> Tensor:
    """Routes (B, K, M, C) back in place (B, L, C), summed where several pass."""
    return returned(x, order).sum(1)
