"""Prim's algorithm, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

from geomprobe.storage import Array


@njit(cache=True)
def prim_of_points(points: Array) -> Array:
    """Return the edges, (n - 1, 2), of a Euclidean minimum spanning tree of (n, d) points."""
    n, d = points.shape
    nearest = np.full(n, np.inf)
    parent = np.zeros(n, np.int64)
    edges = np.empty((n - 1, 2), np.int64)
    waiting = np.arange(1, n)
    current = 0
    for step in range(n - 1):
        best = 0
        for slot in range(n - 1 - step):
            j = waiting[slot]
            square = 0.0
            for k in range(d):
                difference = points[j, k] - points[current, k]
                square += difference * difference
            if square < nearest[j]:
                nearest[j] = square
                parent[j] = current
            if nearest[j] < nearest[waiting[best]]:
                best = slot
        current = waiting[best]
        waiting[best] = waiting[n - 2 - step]
        edges[step, 0] = parent[current]
        edges[step, 1] = current
    return edges


@njit(cache=True)
def prim_of_distances(distances: Array) -> Array:
    """Return the edges of a minimum spanning forest of a dense (n, n) matrix of distances.

    Infinite entries are no edges; each component has one edge fewer than points.
    """
    n = len(distances)
    nearest = np.full(n, np.inf)
    parent = np.zeros(n, np.int64)
    edges = np.empty((n - 1, 2), np.int64)
    waiting = np.arange(1, n)
    current = found = 0
    for step in range(n - 1):
        best = 0
        for slot in range(n - 1 - step):
            j = waiting[slot]
            if distances[current, j] < nearest[j]:
                nearest[j] = distances[current, j]
                parent[j] = current
            if nearest[j] < nearest[waiting[best]]:
                best = slot
        current = waiting[best]
        waiting[best] = waiting[n - 2 - step]
        if nearest[current] < np.inf:
            edges[found, 0] = parent[current]
            edges[found, 1] = current
            found += 1
    return edges[:found]
