"""Gaussian elimination over a prime field, in matrix products of double precision.

Entries are whole numbers of the interval [-p/2, p/2] in float64, for a prime p below 2^31. A factor
is split at 2^16, so that each part times an entry is at most 2^45, and a sum of 128 such products
below 2^53: the products of BLAS are exact.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from geomprobe.storage import Array

_SPLIT = 65536.0
#: Largest inner dimension of an exact product.
_DEPTH = 128
#: Columns that are eliminated one by one.
_PANEL = 16


def eliminate(matrix: Array, p: float) -> tuple[Array, Array, Array, Array]:
    """Choose the leftmost independent columns of a matrix, and as many rows, by elimination.

    Parameters
    ----------
    matrix : float64 array of shape (m, n)
        Left as it is.
    p : float
        The prime.

    Returns
    -------
    rows, columns : int arrays of shape (r,)
        Of the pivots, columns in rising order; r is the rank.
    others : int array of shape (m - r,)
        The other rows.
    multipliers : float64 array of shape (m - r, r)
        The other rows are these combinations of the pivot rows.

    Notes
    -----
    Recursion by halves: O(m n r), nearly all in matrix products.
    """
    n = matrix.shape[1]
    if n <= _PANEL:
        rows, columns, others, multipliers = _panel(np.ascontiguousarray(matrix.T), p)
        return rows, columns, others, np.ascontiguousarray(multipliers[:, others].T)
    half = n // 2
    rows, columns, others, first = eliminate(matrix[:, :half], p)
    right = minus_product(matrix[:, half:], others, first, matrix[rows, half:], p)
    more_rows, more_columns, left, second = eliminate(right, p)
    first = minus_product(first, left, second, first[more_rows], p)
    return (
        np.concatenate([rows, others[more_rows]]),
        np.concatenate([columns, half + more_columns]),
        others[left],
        np.concatenate([first, second], axis=1),
    )


def minus_product(matrix: Array, rows: Array, left: Array, right: Array, p: float) -> Array:
    """Return some rows of a matrix, less the product of two others, modulo p.

    Parameters
    ----------
    matrix : float64 array of shape (m, n)
    rows : int array of shape (k,)
    left : float64 array of shape (k, r)
    right : float64 array of shape (r, n)
    p : float
        The prime.
    """
    if not left.shape[1]:
        return matrix[rows]
    high = np.rint(left / _SPLIT)
    low = left - high * _SPLIT
    for start in range(0, left.shape[1], _DEPTH):
        here = slice(start, start + _DEPTH)
        part = np.ascontiguousarray(right[here])
        matrix = _minus_parts(matrix, rows, high[:, here] @ part, low[:, here] @ part, p)
        rows = np.arange(len(matrix))
    return matrix


@njit(cache=True, nogil=True)
def _reduced(x: float, p: float) -> float:
    return float(x - np.rint(x / p) * p)


@njit(cache=True, nogil=True)
def _times(a: float, b: float, p: float) -> float:
    high = np.rint(a / _SPLIT)
    return _reduced(_reduced(high * b, p) * _SPLIT + (a - high * _SPLIT) * b, p)


@njit(cache=True, nogil=True)
def _inverse(a: float, p: float) -> float:
    """Return the power p - 2 of an entry, which is its inverse."""
    power, left = 1.0, int(p) - 2
    while left:
        if left & 1:
            power = _times(power, a, p)
        a = _times(a, a, p)
        left >>= 1
    return power


@njit(cache=True, nogil=True)
def _minus_parts(matrix: Array, rows: Array, high: Array, low: Array, p: float) -> Array:
    """Return rows of a matrix less a product that comes in two parts."""
    out = np.empty_like(low)
    for i in range(len(rows)):
        row, upper, lower, into = matrix[rows[i]], high[i], low[i], out[i]
        for j in range(len(into)):
            into[j] = _reduced(row[j] - (_reduced(upper[j], p) * _SPLIT + lower[j]), p)
    return out


@njit(cache=True, nogil=True)
def _panel(columns: Array, p: float) -> tuple[Array, Array, Array, Array]:
    """Eliminate a few columns, given as rows; the multipliers come by pivots, for all rows."""
    width, m = columns.shape
    multipliers = np.empty((width, m))
    pivot_rows, pivot_columns = np.empty(width, np.int64), np.empty(width, np.int64)
    free = np.ones(m, np.bool_)
    left = np.empty(m)
    k = 0
    for c in range(width):
        left[:] = columns[c]
        for t in range(k):
            factor, known = columns[c, pivot_rows[t]], multipliers[t]
            for r in range(m):
                left[r] -= _times(known[r], factor, p)
        pivot = -1
        for r in range(m):
            left[r] = _reduced(left[r], p)
            if pivot < 0 and free[r] and left[r] != 0:
                pivot = r
        if pivot < 0:
            continue
        inverse = _inverse(left[pivot], p)
        for r in range(m):
            left[r] = _times(left[r], inverse, p)
        for t in range(k):
            known = multipliers[t]
            factor = known[pivot]
            for r in range(m):
                known[r] = _reduced(known[r] - _times(left[r], factor, p), p)
        multipliers[k] = left
        pivot_rows[k], pivot_columns[k] = pivot, c
        free[pivot] = False
        k += 1
    return pivot_rows[:k], pivot_columns[:k], np.nonzero(free)[0], multipliers[:k]
