"""Squared distances of points by their differences, compiled."""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange

from geomprobe.storage import Array
from geomprobe.threads import threads_kept

with threads_kept():
    get_num_threads()  # Starts numba's threads, as the first parallel kernel would.

_BAND = 64


@njit(cache=True, nogil=True, fastmath=True)
def square_double(points: Array, i: int, j: int) -> float:
    """Return the squared distance of two points of a float64 array."""
    total = 0.0
    for k in range(points.shape[1]):
        difference = points[i, k] - points[j, k]
        total += difference * difference
    return total


@njit(cache=True, nogil=True, parallel=True)
def finish_squares(products: Array, points: Array, cancelled: float) -> None:
    """Turn the scalar products of centred points into their distances, in place.

    Only the lower triangle is read. Where the square is less than the share ``cancelled`` of the
    squared norms, it is taken from the difference. Symmetric, with a zero diagonal.
    """
    n = len(products)
    norms = np.diag(products).copy()
    bands = -(-n // _BAND)
    for first in prange((bands + 1) // 2):
        # A short band of the triangle, and a long one.
        last = bands - 1 - np.int64(first)
        _finish_band(products, points, norms, cancelled, first * _BAND)
        if last > first:
            _finish_band(products, points, norms, cancelled, last * _BAND)


@njit(cache=True, nogil=True)
def _finish_band(products: Array, points: Array, norms: Array, cancelled: float, top: int) -> None:
    bottom = min(top + _BAND, len(products))
    for left in range(0, bottom, _BAND):
        for i in range(top, bottom):
            row, own, right = products[i], norms[i], min(left + _BAND, i)
            close = 0
            for j in range(left, right):
                scale = own + norms[j]
                square = scale - 2 * row[j]
                close += square < cancelled * scale
                row[j] = square
            if close:
                for j in range(left, right):
                    if row[j] < cancelled * (own + norms[j]):
                        row[j] = square_double(points, i, j)
            for j in range(left, right):
                row[j] = np.sqrt(row[j])
            row[i] = 0.0
        for j in range(left, min(left + _BAND, bottom)):
            for i in range(max(top, j + 1), bottom):
                products[j, i] = products[i, j]


@njit(cache=True, nogil=True, parallel=True)
def squares_of(points: Array, ends: Array) -> Array:
    """Return the squared distances of pairs of points, ends of shape (m, 2)."""
    squares = np.empty(len(ends))
    for e in prange(len(ends)):
        squares[e] = square_double(points, ends[e, 0], ends[e, 1])
    return squares
