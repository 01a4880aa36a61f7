"""The nearest neighbours of every point, by matrix products in blocks and compiled selection."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Lock

import numpy as np
from numba import njit
from threadpoolctl import threadpool_limits

from geomprobe.storage import Array

_TILE = 1024
_CHUNK = 64


def nearest_neighbours(points: Array, k: int, n_jobs: int) -> tuple[Array, Array]:
    """Return the k nearest neighbours of each point, and their squared distances.

    Parameters
    ----------
    points : float array of shape (n, d)
        Centred; squared distances have the rounding errors of products of this dtype.
    k : int
        Below n.
    n_jobs : int
        Threads.

    Returns
    -------
    neighbours : int32 array of shape (n, k)
        In no order.
    squares : array of shape (n, k)

    Notes
    -----
    n^2 d / 2 multiply-adds, each pair of blocks being multiplied once, and O(n k) memory.
    """
    n = len(points)
    norms = np.einsum("ij,ij->i", points, points)
    neighbours = np.full((n, k), -1, np.int32)
    squares = np.full((n, k), np.inf, points.dtype)
    worst = np.zeros(n, np.int32)
    starts = range(0, n, _TILE)
    # Two blocks of points at a time are written to.
    locks = {start: Lock() for start in starts}

    def search(pair: tuple[int, int]) -> None:
        i, j = pair
        product = points[i : i + _TILE] @ points[j : j + _TILE].T
        with locks[j], locks[i] if i != j else nullcontext():
            _select(product, norms, i, j, neighbours, squares, worst)

    pairs = [(i, j) for i in starts for j in starts if j <= i]
    # In an order in which pairs that follow one another seldom share a block.
    pairs.sort(key=lambda pair: (pair[0] - pair[1], pair[1]))
    # Each thread multiplies by itself: threads of BLAS would wait in the way of these.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_jobs) as pool:
        deque(pool.map(search, pairs), maxlen=0)
    return neighbours, squares


@njit(cache=True, nogil=True)
def _select(
    product: Array,
    norms: Array,
    start: int,
    other: int,
    neighbours: Array,
    squares: Array,
    worst: Array,
) -> None:
    """Take in what the points of two blocks, that begin there, have near in each other."""
    m, width = product.shape
    for row in range(m):
        for begin in range(0, width, _CHUNK):
            part = product[row, begin : begin + _CHUNK]
            _take(part, norms, start + row, other + begin, neighbours, squares, worst)
    if start == other:
        return
    turned = np.empty((_CHUNK, _CHUNK), product.dtype)
    for left in range(0, width, _CHUNK):
        columns = min(_CHUNK, width - left)
        for begin in range(0, m, _CHUNK):
            rows = min(_CHUNK, m - begin)
            for row in range(rows):
                part = product[begin + row, left : left + columns]
                for column in range(len(part)):
                    turned[column, row] = part[column]
            for column in range(columns):
                part = turned[column, :rows]
                _take(part, norms, other + left + column, start + begin, neighbours, squares, worst)


# There is no NaN, and infinity is heeded: a minimum can then be taken in vectors.
@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc", "contract"})
def _take(
    products: Array,
    norms: Array,
    i: int,
    start: int,
    neighbours: Array,
    squares: Array,
    worst: Array,
) -> None:
    """Take in what point i has near among the points from ``start`` on, given their products."""
    others = norms[start : start + len(products)]
    limit = squares[i, worst[i]] - norms[i]
    two = products.dtype.type(2)
    least = others[0] - two * products[0]
    for c in range(len(products)):
        least = min(least, others[c] - two * products[c])
    if least >= limit:
        return
    own, listed, names = norms[i], squares[i], neighbours[i]
    for c in range(len(products)):
        square = others[c] - two * products[c]
        if square < limit and start + c != i:
            listed[worst[i]] = own + square
            names[worst[i]] = start + c
            place = 0
            for slot in range(1, len(listed)):
                if listed[slot] > listed[place]:
                    place = slot
            worst[i] = place
            limit = listed[place] - own


def nearest_elsewhere(points: Array, group: Array, rows: Array, n_jobs: int) -> Array:
    """Return the squared distance of some points from the nearest point of another group.

    Parameters
    ----------
    points : float array of shape (n, d)
        Centred; the squares have the rounding errors of products of this dtype.
    group : int array of shape (n,)
    rows : int array of shape (m,)
        Which points.
    n_jobs : int
        Threads.
    """
    norms = np.einsum("ij,ij->i", points, points)
    least = np.full(len(rows), np.inf, points.dtype)

    def search(start: int) -> None:
        these = slice(start, start + _TILE)
        mine = points[rows[these]]
        for j in range(0, len(points), _TILE):
            others = slice(j, j + _TILE)
            product = mine @ points[others].T
            _lower(product, norms[others], group[others], group[rows[these]], least[these])
        least[these] += norms[rows[these]]

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_jobs) as pool:
        deque(pool.map(search, range(0, len(rows), _TILE)), maxlen=0)
    return least


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc", "contract"})
def _lower(product: Array, norms: Array, group: Array, own: Array, least: Array) -> None:
    two = product.dtype.type(2)
    for r in range(len(product)):
        row, mine, smallest = product[r], own[r], least[r]
        for j in range(len(row)):
            if group[j] != mine:
                smallest = min(smallest, norms[j] - two * row[j])
        least[r] = smallest
