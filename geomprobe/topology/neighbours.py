"""The nearest neighbours of every point, by matrix products in blocks and compiled selection."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Lock

import numpy as np
from numba import njit

from geomprobe.storage import Array

_TILE = 512
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
        The furthest first.
    squares : array of shape (n, k)

    Notes
    -----
    n^2 d / 2 multiply-adds, each pair of blocks being multiplied once, and O(n k) memory. To be
    called with BLAS limited to one thread.
    """
    n = len(points)
    norms = np.einsum("ij,ij->i", points, points)
    neighbours = np.full((n, k), -1, np.int32)
    squares = np.full((n, k), np.inf, points.dtype)
    limits = np.full(n, np.inf, points.dtype)
    starts = range(0, n, _TILE)
    # Two blocks of points at a time are written to.
    locks = {start: Lock() for start in starts}

    def search(pair: tuple[int, int]) -> None:
        i, j = pair
        products = points[i : i + _TILE] @ points[j : j + _TILE].T
        with locks[j], locks[i] if i != j else nullcontext():
            _select(products, norms, i, j, neighbours, squares, limits)

    pairs = [(i, j) for i in starts for j in starts if j <= i]
    # In an order in which pairs that follow one another seldom share a block.
    pairs.sort(key=lambda pair: (pair[0] - pair[1], pair[1]))
    with ThreadPoolExecutor(n_jobs) as pool:
        deque(pool.map(search, pairs), maxlen=0)
    return neighbours, squares


# There is no NaN, and infinity is heeded. Sums of floats run in vectors; minima would not.
@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc", "contract"})
def _select(
    products: Array,
    norms: Array,
    start: int,
    other: int,
    neighbours: Array,
    squares: Array,
    limits: Array,
) -> None:
    """Take in what the points of two blocks, that begin there, have near in each other.

    A limit is the square of the furthest listed neighbour, less the norm of the point.
    """
    zero, two = products.dtype.type(0), products.dtype.type(2)
    gaps = np.empty(_CHUNK, products.dtype)
    for row in range(len(products)):
        i = start + row
        norm = norms[i]
        width = row if start == other else products.shape[1]
        for begin in range(0, width, _CHUNK):
            part = products[row, begin : min(begin + _CHUNK, width)]
            first = other + begin
            others, bounds = norms[first : first + len(part)], limits[first : first + len(part)]
            limit = limits[i]
            # Below zero where a pair enters a list of either point.
            within = zero
            for c in range(len(part)):
                to_own, to_other = others[c] - limit, norm - bounds[c]
                gap = (to_own if to_own < to_other else to_other) - two * part[c]
                gaps[c] = gap
                within += gap if gap < 0 else zero
            if within == 0:
                continue
            for c in range(len(part)):
                if gaps[c] >= 0:
                    continue
                product = two * part[c]
                if others[c] - product < limits[i]:
                    _enter(neighbours[i], squares[i], first + c, norm + others[c] - product)
                    limits[i] = squares[i, 0] - norm
                if norm - product < bounds[c]:
                    j = first + c
                    _enter(neighbours[j], squares[j], i, norm + others[c] - product)
                    bounds[c] = squares[j, 0] - others[c]


@njit(cache=True, nogil=True)
def _enter(names: Array, squares: Array, name: int, square: float) -> None:
    """Put a neighbour into a list, the furthest first, from which the first falls out."""
    slot = 0
    while slot + 1 < len(squares) and squares[slot + 1] > square:
        names[slot], squares[slot] = names[slot + 1], squares[slot + 1]
        slot += 1
    names[slot], squares[slot] = name, square


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

    with ThreadPoolExecutor(n_jobs) as pool:
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
