"""Signs of affine functions at vertices, one bit each, and which edges they cross."""

from __future__ import annotations

import numpy as np
from numba import njit

from geomprobe.storage import Array

#: A height below this share of its unit's largest is zero, and so is a unit whose largest is below
#: this share of that of its operation: rounding of what cancels.
ZERO = 1e-14

_ONE = np.uint64(1)
_NONE = np.uint64(0)
_DEBRUIJN = np.uint64(0x03F79D71B4CB0A89)
_SHIFT = np.uint64(58)
_BIT = np.zeros(64, np.int64)
_BIT[[(((1 << i) * 0x03F79D71B4CB0A89) % 2**64) >> 58 for i in range(64)]] = np.arange(64)


@njit(cache=True, nogil=True)
def write_signs(heights: Array, vertex: int, start: int, plus: Array, minus: Array) -> None:
    """Write the signs of a row of heights, from the word of entry ``start`` on, as bits."""
    row = heights[vertex]
    for word in range(start >> 6, plus.shape[1]):
        up, down = _NONE, _NONE
        for unit in range(min(64 * word + 64, len(row)) - 1, 64 * word - 1, -1):
            up = (up << _ONE) | np.uint64(row[unit] > 0.0)
            down = (down << _ONE) | np.uint64(row[unit] < 0.0)
        plus[vertex, word], minus[vertex, word] = up, down


@njit(cache=True, nogil=True)
def any_zero(heights: Array, vertex: int, zero: Array, start: int) -> bool:
    """Return whether an entry of a row, from ``start`` on, is zero to its tolerance."""
    row = heights[vertex]
    found = False
    for unit in range(start, len(row)):
        found |= abs(row[unit]) <= zero[unit]
    return found


@njit(cache=True, nogil=True)
def first_crossing(plus: Array, minus: Array, a: int, b: int, start: int) -> int:
    """Return the first function, from ``start`` on, with opposite signs at two vertices; or -1."""
    words = plus.shape[1]
    word = start >> 6
    if word >= words:
        return -1
    keep = ~((_ONE << np.uint64(start & 63)) - _ONE)
    while word < words:
        found = (plus[a, word] & minus[b, word]) | (minus[a, word] & plus[b, word])
        found &= keep
        if found != _NONE:
            lowest = found & (~found + _ONE)
            bit: int = _BIT[(lowest * _DEBRUIJN) >> _SHIFT]
            return (word << 6) + bit
        keep = ~_NONE
        word += 1
    return -1


@njit(cache=True, nogil=True)
def blend(rows: Array, made: int, a: int, b: int, share: float) -> None:
    """Write a convex combination of two rows into a third: what is zero or of one sign stays so."""
    rest = 1.0 - share
    for k in range(rows.shape[1]):
        rows[made, k] = rest * rows[a, k] + share * rows[b, k]


@njit(cache=True, nogil=True)
def extended(rows: Array, first: Array, second: Array, share: Array) -> Array:
    """Return rows with those of later vertices, each between two earlier ones, after them."""
    n = len(rows)
    out = np.empty((n + len(first), rows.shape[1]))
    out[:n] = rows
    for k in range(len(first)):
        blend(out, n + k, first[k], second[k], share[k])
    return out


@njit(cache=True, nogil=True)
def longer(values: Array, room: int) -> Array:
    """Return an array with room for more rows."""
    out = np.empty((room, *values.shape[1:]), values.dtype)
    out[: len(values)] = values
    return out


@njit(cache=True, nogil=True)
def extent(heights: Array) -> tuple[Array, Array]:
    """Return the least and the largest entry of each column, or zero where that is nearer to it."""
    low, high = np.zeros(heights.shape[1]), np.zeros(heights.shape[1])
    for row in heights:
        for k in range(len(row)):
            low[k] = min(low[k], row[k])
            high[k] = max(high[k], row[k])
    return low, high


def roomy(rows: Array, times: int = 4) -> Array:
    """Return rows with room for more after them; memory is taken as it is written to.

    By numpy, which asks for large pages: to touch small ones for the first time is what costs.
    """
    out = np.empty((times * len(rows) + 1024, *rows.shape[1:]), rows.dtype)
    out[: len(rows)] = rows
    return out
