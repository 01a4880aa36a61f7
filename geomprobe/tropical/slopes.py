"""Quantities along segments by their slopes, compiled: values, where they bend, and what then."""

from __future__ import annotations

import numpy as np
from numba import njit

from geomprobe.storage import Array
from geomprobe.tropical.branches import FAR
from geomprobe.tropical.signs import ZERO, longer


@njit(cache=True, nogil=True)
def integrated(rows: Array, segment: Array, t: Array) -> Array:
    """Return values at all inputs, (n, units), from their rows."""
    values: Array = rows.copy()
    for i in range(1, len(rows)):
        if segment[i] == segment[i - 1]:
            step = t[i] - t[i - 1]
            for u in range(rows.shape[1]):
                values[i, u] = values[i - 1, u] + step * (rows[i, u] - rows[0, u])
    return values


@njit(cache=True, nogil=True)
def places(rows: Array, source: Array, segment: Array, t: Array) -> Array:
    """Return values at all inputs, and then in the middle before each, (2 n, units).

    From the rows before, by ``source``. Where a segment starts, both are the value there.
    """
    n, units = len(t), rows.shape[1]
    values = np.empty((2 * n, units))
    for i in range(n):
        row = rows[source[i]]
        if i == 0 or segment[i] != segment[i - 1]:
            values[i] = row
            values[n + i] = row
            continue
        step = t[i] - t[i - 1]
        for u in range(units):
            rise = step * (row[u] - rows[0, u])
            values[i, u] = values[i - 1, u] + rise
            values[n + i, u] = values[i - 1, u] + rise / 2
    return values


@njit(cache=True, nogil=True)
def farthest(
    made: Array, ends: Array, middles: Array, segment: Array, t: Array
) -> tuple[float, float]:
    """Return the largest distance of values from what rows add up to, and the largest value."""
    value, off, size = made[0].copy(), np.zeros(made.shape[1]), np.zeros(made.shape[1])
    for i in range(1, len(t)):
        start = segment[i] != segment[i - 1]
        half = 0.0 if start else (t[i] - t[i - 1]) / 2
        for u in range(len(value)):
            if start:
                value[u] = made[i, u]
            rise = half * (made[i, u] - made[0, u])
            middle = abs(middles[i, u] - (value[u] + rise))
            value[u] += 2 * rise
            off[u] = max(off[u], middle, abs(ends[i, u] - value[u]))
            size[u] = max(size[u], abs(value[u]))
    return off.max(), size.max()


@njit(cache=True, nogil=True)
def crossings(
    values: Array, segment: Array, thresholds: Array
) -> tuple[Array, Array, Array, Array]:
    """Return where values reach thresholds, (k, units), between neighbours on a segment.

    Returns
    -------
    left, unit, level : int array
        The input before, the unit, and which of its thresholds.
    share : float array
        How far from ``left`` to its right neighbour, in (0, 1).
    """
    below, above = _bands(values, thresholds)
    n, units = values.shape
    count = 0
    for i in range(n - 1):
        for k in range(len(thresholds) if segment[i] == segment[i + 1] else 0):
            for u in range(units):
                a, b, low, high = values[i, u], values[i + 1, u], below[k, u], above[k, u]
                count += ((a < low) & (b > high)) | ((a > high) & (b < low))
    left, unit = np.empty(count, np.int64), np.empty(count, np.int64)
    level, share = np.empty(count, np.int64), np.empty(count, np.float64)
    found = 0
    for i in range(n - 1):
        for k in range(len(thresholds) if segment[i] == segment[i + 1] else 0):
            for u in range(units):
                a, b, low, high = values[i, u], values[i + 1, u], below[k, u], above[k, u]
                if ((a < low) & (b > high)) | ((a > high) & (b < low)):
                    left[found], unit[found], level[found] = i, u, k
                    share[found] = (thresholds[k, u] - a) / (b - a)
                    found += 1
    return left, unit, level, share


@njit(cache=True, nogil=True)
def _bands(values: Array, thresholds: Array) -> tuple[Array, Array]:
    """Return between what, (k, units), a value is at a threshold to rounding.

    All values are, of a unit that moves by rounding only, and where there is no finite threshold.
    """
    reach, size = np.zeros(thresholds.shape), np.zeros(values.shape[1])
    for value in values:
        for u in range(len(value)):
            size[u] = max(size[u], abs(value[u]))
        for k in range(len(thresholds)):
            for u in range(len(value)):
                reach[k, u] = max(reach[k, u], abs(value[u] - thresholds[k, u]))
    reach = np.where(reach < FAR / 2, reach, 0.0)
    width = np.where(reach > ZERO * size.max(), ZERO * reach, np.inf)
    return thresholds - width, thresholds + width


@njit(cache=True, nogil=True)
def bent(
    rows: Array,
    source: Array,
    segment: Array,
    t: Array,
    thresholds: Array,
    factors: Array,
    at: Array,
    unit: Array,
    level: Array,
) -> Array:
    """Return the slopes after an operation on each entry, from rows before, by ``source``.

    At the inputs ``at``, ascending, a unit has just reached a threshold.
    """
    made = np.zeros((len(t), rows.shape[1]))
    value, middle = rows[0].copy(), rows[0].copy()
    following = 0
    for i in range(1, len(t)):
        row, out = rows[source[i]], made[i]
        if segment[i] != segment[i - 1]:
            value[:] = row
        else:
            step = t[i] - t[i - 1]
            for u in range(len(row)):
                slope = row[u] - rows[0, u]
                middle[u] = value[u] + step / 2 * slope
                value[u] += step * slope
                out[u] = factors[0, u] * slope
            for k in range(len(thresholds)):
                for u in range(len(row)):
                    if middle[u] > thresholds[k, u]:
                        out[u] = factors[k + 1, u] * (row[u] - rows[0, u])
        while following < len(at) and at[following] == i:
            value[unit[following]] = thresholds[level[following], unit[following]]
            following += 1
    return made


@njit(cache=True, nogil=True)
def largest(rows: Array, source: Array, segment: Array, t: Array) -> Array:
    """Return rows of the largest of some candidates, (units, k), from their rows by ``source``."""
    _, units, k = rows.shape
    made = np.zeros((len(t), units))
    value = rows[0].copy()
    for i in range(1, len(t)):
        row = rows[source[i]]
        start = segment[i] != segment[i - 1]
        step = 0.0 if start else t[i] - t[i - 1]
        if start:
            value[:] = row
        for u in range(units):
            highest = -np.inf
            for j in range(k):
                slope = row[u, j] - rows[0, u, j]
                middle = value[u, j] + step / 2 * slope
                if middle > highest:
                    highest, made[i, u] = middle, middle if start else slope
                value[u, j] += step * slope
    return made


@njit(cache=True, nogil=True)
def envelope_corners(candidates: Array, segment: Array) -> tuple[Array, Array]:
    """Return where the largest of some candidates, (n, units, k), changes between neighbours.

    By the input before, and how far from it to its neighbour.
    """
    n, units, k = candidates.shape
    room = 16
    left, share = np.empty(room, np.int64), np.empty(room, np.float64)
    found = 0
    for i in range(n - 1):
        if segment[i] != segment[i + 1]:
            continue
        for u in range(units):
            a, b = candidates[i, u], candidates[i + 1, u]
            # The largest just after the left end: of equal ones that which ends highest.
            now = 0
            for j in range(1, k):
                if a[j] > a[now] or (a[j] == a[now] and b[j] > b[now]):
                    now = j
            while True:
                # The first to overtake it.
                best, then, rise = 1.0, -1, 0.0
                for j in range(k):
                    if b[j] > b[now]:
                        gap, gain = a[now] - a[j], b[j] - b[now]
                        s = gap / (gap + gain)
                        if s < best or (s == best and gain > rise):
                            best, then, rise = s, j, gain
                if then < 0:
                    break
                if found == room:
                    room *= 2
                    left, share = longer(left, room), longer(share, room)
                left[found], share[found] = i, best
                found += 1
                now = then
    return left[:found], share[:found]
