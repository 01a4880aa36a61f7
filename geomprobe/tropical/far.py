"""Vertices far out, compiled: each a direction, times a width, plus an offset.

Between two such vertices a third may lie near the origin. From their plain coordinates it would
have the rounding of the width; from directions and offsets it has only its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from geomprobe.storage import Array


class Heights(NamedTuple):
    """Functions at vertices; of a box the values alone, and the other arrays are empty."""

    values: Array  #: (vertices, units).
    slopes: Array = np.empty((0, 0))  #: By width, (vertices, units); 0 where a vertex is not far.
    offsets: Array = np.empty((0, 0))  #: What the width is not a factor of, (vertices, units).
    sizes: Array = np.empty(0)  #: Of the numbers that offsets are sums of, over those at corners.
    far: Array = np.empty(0, bool)  #: Whether a vertex is far out.


@njit(cache=True, nogil=True)
def near_zero(
    heights: Array, slopes: Array, sizes: Array, v: int, zero: Array, start: int, width: float
) -> bool:
    """Return whether a height, from ``start`` on, is zero to the rounding of what it is made of."""
    found = False
    for u in range(start, heights.shape[1]):
        size = width if slopes[v, u] != 0.0 else sizes[v]
        found |= abs(heights[v, u]) <= zero[u] * size
    return found


@njit(cache=True, nogil=True)
def meet(
    heights: Array, slopes: Array, offsets: Array, a: int, b: int, u: int, zero: float, width: float
) -> tuple[float, float, float]:
    """Return where function u is zero between two vertices: share, direct, shift.

    The vertex is (1 - share) a + share b. Of directions that is (1 - direct) a + direct b where it
    is far out itself, and what is left of them adds shift (b - a) to its offset.
    """
    share = heights[a, u] / (heights[a, u] - heights[b, u])
    slope, gap = slopes[a, u] - slopes[b, u], offsets[a, u] - offsets[b, u]
    if abs(slope) <= zero:
        return share, share, 0.0
    rest = offsets[a, u] * slope - slopes[a, u] * gap
    return share, slopes[a, u] / slope, rest / (slope * (slope + gap / width))


@njit(cache=True, nogil=True)
def blend_far(
    heights: Array,
    slopes: Array,
    offsets: Array,
    v: int,
    a: int,
    b: int,
    place: tuple[float, float, float],
    far: bool,
) -> None:
    """Write what all functions are at a vertex between two others."""
    share, direct, shift = place
    for u in range(heights.shape[1]):
        offset = (1.0 - share) * offsets[a, u] + share * offsets[b, u]
        offsets[v, u] = offset + shift * (slopes[b, u] - slopes[a, u])
        if far:
            slopes[v, u] = (1.0 - direct) * slopes[a, u] + direct * slopes[b, u]
            heights[v, u] = (1.0 - share) * heights[a, u] + share * heights[b, u]
        else:
            slopes[v, u] = 0.0
            heights[v, u] = offsets[v, u]


@njit(cache=True, nogil=True)
def last_crossing(offsets: Array, slopes: Array, far: Array, flat: float) -> float:
    """Return how wide the border was where a height at one of its vertices last changed its sign.

    Slopes below the share ``flat`` of the largest are none.
    """
    steepest = np.zeros(slopes.shape[1])
    for v in range(len(far)):
        for u in range(len(steepest)):
            steepest[u] = max(steepest[u], abs(slopes[v, u]))
    least, last = flat * steepest.max(), 0.0
    for v in range(len(far)):
        for u in range(len(steepest) if far[v] else 0):
            slope, offset = slopes[v, u], offsets[v, u]
            if slope * offset < 0.0 and abs(slope) > least and abs(offset) > last * abs(slope):
                last = abs(offset / slope)
    return last


@njit(cache=True, nogil=True)
def above_zero(rows: Array, far: Array, width: float) -> Array:
    """Return the rows, as of :func:`lengthened`, of what is above zero, and zero elsewhere."""
    out = np.zeros(rows.shape)
    for v in range(len(far)):
        for u in range(rows.shape[1]):
            offset, slope = rows[1 + 2 * v, u], 0.0
            if far[v]:
                slope = rows[2 + 2 * v, u] - rows[0, u]
            if offset + width * slope > 0.0:
                out[1 + 2 * v, u], out[2 + 2 * v, u] = offset, slope
    return out


@njit(cache=True, nogil=True)
def lengthened(rows: Array, first: Array, second: Array, places: Array, far: Array) -> Array:
    """Return rows with those of later vertices, each between two earlier ones, after them.

    The first row is of an input of zeros; then each vertex has one of its offset, and one of its
    direction, to which that first one is added.
    """
    n, units = (len(rows) - 1) // 2, rows.shape[1]
    out = np.empty((len(rows) + 2 * len(first), units))
    out[: len(rows)] = rows
    for k in range(len(first)):
        a, b, v = 1 + 2 * first[k], 1 + 2 * second[k], 1 + 2 * (n + k)
        share, direct, shift = places[k]
        for u in range(units):
            offset = (1.0 - share) * out[a, u] + share * out[b, u]
            out[v, u] = offset + shift * (out[b + 1, u] - out[a + 1, u])
            out[v + 1, u] = rows[0, u]
            if far[k]:
                out[v + 1, u] = (1.0 - direct) * out[a + 1, u] + direct * out[b + 1, u]
    return out
