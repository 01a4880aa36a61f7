"""Squared distances of points by their differences, compiled."""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange

from geomprobe.storage import Array
from geomprobe.threads import threads_kept

with threads_kept():
    get_num_threads()  # Starts numba's threads, as the first parallel kernel would.


@njit(cache=True, nogil=True, fastmath=True)
def square_double(points: Array, i: int, j: int) -> float:
    """Return the squared distance of two points of a float64 array."""
    total = 0.0
    for k in range(points.shape[1]):
        difference = points[i, k] - points[j, k]
        total += difference * difference
    return total


@njit(cache=True, nogil=True, parallel=True)
def finish_squares(products: Array, points: Array, norms: Array, cancelled: float) -> None:
    """Turn the scalar products of points into their distances, in place.

    Where the square is less than the share ``cancelled`` of the squared norms, it is taken from
    the difference. Symmetric, with a zero diagonal.
    """
    n = len(products)
    for i in prange(n):
        row, own = products[i], norms[i]
        for begin in range(0, n, 64):
            end = min(begin + 64, n)
            close = 0
            for j in range(begin, end):
                scale = own + norms[j]
                square = scale - 2 * row[j]
                close += square < cancelled * scale
                row[j] = square
            if close:
                for j in range(begin, end):
                    if row[j] < cancelled * (own + norms[j]):
                        row[j] = square_double(points, i, j)
            for j in range(begin, end):
                row[j] = np.sqrt(row[j])


@njit(cache=True, nogil=True, parallel=True)
def squares_of(points: Array, ends: Array) -> Array:
    """Return the squared distances of pairs of points, ends of shape (m, 2)."""
    squares = np.empty(len(ends))
    for e in prange(len(ends)):
        squares[e] = square_double(points, ends[e, 0], ends[e, 1])
    return squares
