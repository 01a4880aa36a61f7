"""A scale by which all loops have probably died, long before the enclosing radius.

An edge with a witness, a point nearer to both its ends than these are to each other, gives birth to
no loop: the two shorter edges and the triangle go round it. Beyond the longest edge without a
witness no loop is born, so that once none is alive none comes. The edges without a witness are the
relative neighbourhood graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from geomprobe.storage import Array

# Smaller clouds are done before this is.
_FEWEST = 256
# In most clouds all loops had died by the time that 1.25 times the edges up to the last birth had
# come, and 0.03 of all. To try half of all edges in vain would cost too much.
_MORE, _MORE_OF_ALL, _MOST = 1.25, 0.03, 0.5
# Witnesses are looked for first among the nearest points in four parts of the cloud.
_PARTS = 4


def end_of_loops(graph: Any, limit: float) -> float | None:
    """Return a scale to try before the limit; None where trying would not pay.

    If no loop is alive at that scale, the diagrams of H0 and H1 up to it are those up to the limit.

    Parameters
    ----------
    graph : array of shape (n, n)
        Distances, which need not obey the triangle inequality; infinity is no edge. A sparse graph
        gives None.
    limit : float
        Largest edge to consider.

    Notes
    -----
    O(n^2) time for distances with structure, since the first few points that are tried are mostly
    witnesses; O(n) memory.

    References
    ----------
    Koyama, M. A., Mémoli, F., Robins, V. and Turner, K. (2023). Faster computation of degree-1
    persistent homology using the reduced Vietoris-Rips filtration. arXiv 2307.16333. Toussaint,
    G. T. (1980). The relative neighbourhood graph of a finite planar set. Pattern Recognition 12.
    """
    if not isinstance(graph, np.ndarray) or len(graph) < _FEWEST:
        return None
    some = np.sort(graph[:: 1 + len(graph) // 64], axis=None)
    some = some[np.searchsorted(some, 0, side="right") : np.searchsorted(some, limit, side="right")]
    if not len(some):
        return None
    last_birth = longest_without_witness(graph, limit)
    share = np.searchsorted(some, last_birth, side="right") / len(some)
    share = _MORE * share + _MORE_OF_ALL
    return max(last_birth, float(some[int(share * len(some))])) if share < _MOST else None


def longest_without_witness(distances: Array, limit: float) -> float:
    """Return the length of the longest edge up to the limit that has no witness."""
    near, reach = _nearest_of_parts(distances)
    # The edge to the nearest point of all has none.
    nearest = reach.min(axis=1)
    longest = float(nearest[nearest <= limit].max(initial=0.0))
    return float(_without_witness(distances, limit, near, reach, longest).max())


@njit(cache=True, nogil=True, parallel=True)
def _nearest_of_parts(distances: Array) -> tuple[Array, Array]:
    """Return the nearest other point in each part of the cloud, and its distance, (n, parts)."""
    n = len(distances)
    near, reach = np.zeros((n, _PARTS), np.int64), np.full((n, _PARTS), np.inf)
    for a in prange(n):
        row = distances[a]
        for part in range(_PARTS):
            for b in range(part * n // _PARTS, (part + 1) * n // _PARTS):
                if row[b] < reach[a, part] and b != a:
                    near[a, part], reach[a, part] = b, row[b]
    return near, reach


# There is no NaN: minima would not run in vectors if there could be.
@njit(cache=True, nogil=True, parallel=True, fastmath={"nnan", "nsz"})
def _without_witness(
    distances: Array, limit: float, near: Array, reach: Array, longest: float
) -> Array:
    """Return the longest edge without a witness, if above ``longest``, in 64 sets of rows."""
    n, sets = len(distances), 64
    found = np.full(sets, longest)
    for s in prange(sets):
        best, bare = longest, np.empty(n, np.bool_)
        for a in range(s, n, sets):
            row = distances[a]
            # First, for all b at once, witnesses that are near a.
            to0, to1, to2, to3 = reach[a]
            row0, row1 = distances[near[a, 0]], distances[near[a, 1]]
            row2, row3 = distances[near[a, 2]], distances[near[a, 3]]
            for b in range(a):
                least = min(
                    min(max(to0, row0[b]), max(to1, row1[b])),
                    min(max(to2, row2[b]), max(to3, row3[b])),
                )
                bare[b] = (least >= row[b]) & (row[b] > best) & (row[b] <= limit)
            for b in range(a):
                if bare[b] and row[b] > best and not _has_witness(distances, a, b, near, reach):
                    best = row[b]
        found[s] = best
    return found


@njit(cache=True, nogil=True)
def _has_witness(distances: Array, a: int, b: int, near: Array, reach: Array) -> bool:
    row, other = distances[a], distances[b]
    edge = row[b]
    for part in range(_PARTS):
        if row[near[b, part]] < edge and reach[b, part] < edge:
            return True
    for c in range(len(row)):  # noqa: SIM110
        if row[c] < edge and other[c] < edge:
            return True
    return False
