"""Prim's algorithm, compiled: exact, and nearly at the speed of single precision."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from geomprobe.storage import Array
from geomprobe.topology.differences import square_double

#: Points whose distances are taken side by side, and coordinates at a time.
_LANES, _STRIDE = 64, 4


def prim_of_points(points: Array, relative: float, absolute: float) -> Array:
    """Return the edges, (n - 1, 2), of a Euclidean minimum spanning tree.

    Distances are compared in single precision, and again in double precision where that cannot
    tell them apart.

    Parameters
    ----------
    points : float64 array of shape (n, d)
        Of the order of 1, lest squares overflow in single precision.
    relative, absolute : float
        A distance between points rounded to single precision, taken in that precision, is off by at
        most ``absolute`` plus ``relative`` times it.

    Notes
    -----
    O(n^2 d) time and O(n d) memory.
    """
    n, d = points.shape
    tiles = np.zeros((-(-n // _LANES), -(-d // _STRIDE) * _STRIDE, _LANES), np.float32)
    padded = np.zeros((len(tiles) * _LANES, d), np.float32)
    padded[:n] = points
    tiles[:, :d] = padded.reshape(len(tiles), _LANES, d).transpose(0, 2, 1)
    edges: Array = _prim(points, tiles, np.float32(relative), np.float32(absolute))
    return edges


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _distances(tile: Array, centre: Array, sums: Array) -> None:
    """Write the distances of the points of a tile, (d, lanes), from a centre, (d,)."""
    for lane in range(_LANES):
        sums[lane] = 0
    for k in range(0, len(centre), _STRIDE):
        c0, c1, c2, c3 = centre[k], centre[k + 1], centre[k + 2], centre[k + 3]
        for lane in range(_LANES):
            d0 = tile[k, lane] - c0
            d1 = tile[k + 1, lane] - c1
            d2 = tile[k + 2, lane] - c2
            d3 = tile[k + 3, lane] - c3
            sums[lane] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
    for lane in range(_LANES):
        sums[lane] = np.sqrt(sums[lane])


@njit(cache=True, nogil=True)
def _prim(points: Array, tiles: Array, relative: float, absolute: float) -> Array:
    n = len(points)
    # By slot: which point waits there, how far it is from the tree, and from which point of it.
    waiting = np.arange(len(tiles) * _LANES)
    nearest = np.full(len(waiting), np.inf, np.float32)
    parent = np.zeros(len(waiting), np.int64)
    edges = np.empty((n - 1, 2), np.int64)
    centre = tiles[0, :, 0].copy()
    sums = np.empty(_LANES, np.float32)
    current, left = 0, n - 1
    _move(tiles, waiting, nearest, parent, left, 0)
    two = np.float32(2)
    for step in range(n - 1):
        best, first, second = 0, np.float32(np.inf), np.float32(np.inf)
        for tile in range((left + _LANES - 1) // _LANES):
            _distances(tiles[tile], centre, sums)
            base = tile * _LANES
            lanes = min(_LANES, left - base)
            closer = 0
            for lane in range(lanes):
                distance = sums[lane]
                band = two * (absolute + relative * distance)
                closer += distance < nearest[base + lane] + band
            if closer:
                for lane in range(lanes):
                    slot, distance = base + lane, sums[lane]
                    band = two * (absolute + relative * distance)
                    if distance >= nearest[slot] + band:
                        continue
                    better = distance < nearest[slot]
                    if distance > nearest[slot] - band:
                        j = waiting[slot]
                        old = square_double(points, j, parent[slot])
                        better = square_double(points, j, current) < old
                    if better:
                        nearest[slot] = distance
                        parent[slot] = current
            least = np.float32(np.inf)
            for lane in range(lanes):
                least = min(least, nearest[base + lane])
            if least <= second:
                for lane in range(lanes):
                    distance = nearest[base + lane]
                    if distance < first:
                        best, second, first = base + lane, first, distance
                    elif distance < second:
                        second = distance
        band = two * (absolute + relative * second)
        if second <= first + band:
            smallest = np.inf
            for slot in range(left):
                if nearest[slot] <= first + band:
                    square = square_double(points, waiting[slot], parent[slot])
                    if square < smallest:
                        best, smallest = slot, square
        current = waiting[best]
        edges[step, 0] = parent[best]
        edges[step, 1] = current
        centre[:] = tiles[best // _LANES, :, best % _LANES]
        left -= 1
        _move(tiles, waiting, nearest, parent, left, best)
    return edges


@njit(cache=True, nogil=True)
def _move(
    tiles: Array, waiting: Array, nearest: Array, parent: Array, start: int, end: int
) -> None:
    """Put what waits in one slot into another."""
    tiles[end // _LANES, :, end % _LANES] = tiles[start // _LANES, :, start % _LANES]
    waiting[end] = waiting[start]
    nearest[end] = nearest[start]
    parent[end] = parent[start]


@njit(cache=True, nogil=True)
def prim_of_distances(distances: Array) -> Array:
    """Return the edges of a minimum spanning forest of a dense matrix.

    Infinite entries are no edges; each component has one edge fewer than points.
    """
    n = len(distances)
    nearest = np.full(n, np.inf)
    parent = np.zeros(n, np.int64)
    edges = np.empty((n - 1, 2), np.int64)
    waiting = np.arange(1, n)
    current, found = 0, 0
    for left in range(n - 1, 0, -1):
        row = distances[current]
        best, least = 0, np.inf
        for slot in range(left):
            distance = row[waiting[slot]]
            if distance < nearest[slot]:
                nearest[slot] = distance
                parent[slot] = current
            if nearest[slot] < least:
                best, least = slot, nearest[slot]
        current = waiting[best]
        if least < np.inf:
            edges[found, 0] = parent[best]
            edges[found, 1] = current
            found += 1
        waiting[best] = waiting[left - 1]
        nearest[best] = nearest[left - 1]
        parent[best] = parent[left - 1]
    return edges[:found]


@njit(cache=True, nogil=True, parallel=True)
def sums_of_trees(distances: Array, subsets: Array, alpha: float) -> Array:
    """Return the sum of the powers of the edges of a spanning tree of each subset, (m, k) rows.

    All distances are finite.
    """
    sums = np.empty(len(subsets))
    for s in prange(len(subsets)):
        sums[s] = _sum_of_tree(distances, subsets[s], alpha)
    return sums


# There is no NaN: minima would branch if there could be. Which edges these are, nobody asks.
@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _sum_of_tree(distances: Array, rows: Array, alpha: float) -> float:
    nearest = np.full(len(rows), np.inf)
    waiting = rows[1:].copy()
    current, total = rows[0], 0.0
    for left in range(len(rows) - 1, 0, -1):
        row = distances[current]
        best, least = 0, np.inf
        for slot in range(left):
            distance = min(nearest[slot], row[waiting[slot]])
            nearest[slot] = distance
            if distance < least:
                best, least = slot, distance
        total += least**alpha
        current = waiting[best]
        waiting[best] = waiting[left - 1]
        nearest[best] = nearest[left - 1]
    return total
