"""The routes of MHS-VM's heads: pairs of paths over a map, each walked both ways. Ji, 2024, arXiv:2406.05992"""

from __future__ import annotations

from functools import cache

import numpy as np

from .scan_order import Places, Plan, folded, plan, raster


def both(first: Places, second: Places) -> Plan:
    return plan([first, first[::-1], second, second[::-1]])


@cache
def snakes(rows: int, columns: int) -> Plan:
    """Rows to and fro, and columns"""
    at = raster(rows, columns)
    return both(folded(at), folded(at.T))


@cache
def diagonals(rows: int, columns: int) -> Plan:
    """From corner to corner to and fro, and that mirrored left to right"""
    at = raster(rows, columns)
    return both(zigzag(at), zigzag(at[:, ::-1]))


@cache
def spirals(rows: int, columns: int) -> Plan:
    """Clockwise from the rim inwards, and that mirrored top to bottom"""
    at = raster(rows, columns)
    return both(spiral(at), spiral(at[::-1]))


@cache
def lines(rows: int, columns: int) -> Plan:
    """Row by row, and column by column"""
    at = raster(rows, columns)
    return both(at.reshape(-1), at.T.reshape(-1))


def zigzag(at: Places) -> Places:
    """Diagonals i + j = 0, 1, ...: downwards the odd ones, upwards the even ones."""
    rows, columns = at.shape
    ways = [np.diagonal(at[::-1], k - rows + 1) for k in range(rows + columns - 1)]  # each from its lowest place
    return np.concatenate([way[::-1] if k % 2 else way for k, way in enumerate(ways)])


def spiral(at: Places) -> Places:
    parts = []
    while at.size:
        parts.append(at[0])
        at = np.rot90(at[1:])
    return np.concatenate(parts)
