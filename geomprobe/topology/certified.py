"""Minimum spanning trees of large clouds: nearest neighbours, and a certificate for every edge.

The shortest edge that leaves a set of points belongs to a minimum spanning tree. Lists of nearest
neighbours propose edges; one is certain if, on one side of it, all lists reach further than the
edge is long, so that none can have missed a shorter one. What stays uncertain is looked up.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit, prange
from threadpoolctl import ThreadpoolController

from geomprobe.storage import Array
from geomprobe.topology.differences import square_double, squares_of
from geomprobe.topology.neighbours import nearest_elsewhere, nearest_neighbours

_NEIGHBOURS = 10


def mst_by_products(points: Array, n_jobs: int) -> Array:
    """Return the edges, (n - 1, 2), of a minimum spanning tree of centred points, float64 (n, d).

    Notes
    -----
    Half a matrix product of the points with themselves, usually in single precision, and more only
    where clusters lie apart: there the points of all but the largest once more in each round, of at
    most log2 of their number.
    """
    # Each thread multiplies by itself. Threads of BLAS would be in the way: after each product they
    # wait busily for the next.
    with _blas().limit(limits=1):
        return _by_products(points, n_jobs)


@cache
def _blas() -> ThreadpoolController:
    """Return what sets the threads of BLAS; to find it takes milliseconds, so it is kept."""
    return ThreadpoolController().select(user_api="blas")


def _by_products(points: Array, n_jobs: int) -> Array:
    n = len(points)
    rounded, error = _rounded(points)
    k = min(_NEIGHBOURS, n - 1)
    neighbours, near = nearest_neighbours(rounded, k, n_jobs)
    reach = near.max(axis=1) - error
    ends = np.stack([np.repeat(np.arange(n), k), neighbours.ravel()], axis=1)
    squares = squares_of(points, ends)
    order = np.argsort(squares)
    ends, squares = ends[order], squares[order]
    parent = np.arange(n)
    chosen = []
    while True:
        certain, group = _certain(ends, squares, reach, parent)
        chosen.append(ends[certain])
        if sum(map(len, chosen)) == n - 1:
            return np.concatenate(chosen)
        leaving = _shortest_leaving(points, rounded, error, group, n_jobs)
        chosen.append(leaving[_joined(leaving, parent)])


def _rounded(points: Array) -> tuple[Array, float]:
    """Return the points in single precision where that tells neighbours apart, and the error.

    The error is that of the square of a distance got by products, norms and points being rounded.
    """
    some = points[:: 1 + len(points) // 256]
    norms = np.einsum("ij,ij->i", some, some)
    squares = norms + norms[:, None] - 2 * some @ some.T
    np.fill_diagonal(squares, np.inf)
    near = float(np.median(squares.min(axis=1)))
    largest = float(np.einsum("ij,ij->i", points, points).max())
    single, double = (
        4 * (points.shape[1] + 8) * float(np.finfo(dtype).eps) * largest
        for dtype in (np.float32, np.float64)
    )
    return (points, double) if near < 100 * single else (points.astype(np.float32), single)


@njit(cache=True, nogil=True)
def _root(parent: Array, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _certain(ends: Array, squares: Array, reach: Array, parent: Array) -> tuple[Array, Array]:
    """Join components by those edges, given in ascending order, that are certain.

    An edge that leaves a component is certain if all lists there reach as far, and no shorter edge
    that leaves it was passed over.

    Returns
    -------
    chosen : int array
        Which edges these are.
    group : int array of shape (n,)
        Sets of points whose shortest leaving edge is not known, by number; -1 elsewhere. They are
        the smaller sides of edges passed over, as they were then.
    """
    n = len(parent)
    least = np.full(n, np.inf)
    size = np.zeros(n, np.int64)
    tail = np.empty(n, np.int64)  # The points of a component are chained, from its root on.
    following = np.full(n, -1, np.int64)
    for i in range(n):
        tail[i] = i
    for i in range(n):
        root = _root(parent, i)
        least[root] = min(least[root], reach[i])
        size[root] += 1
        if root != i:
            following[tail[root]] = i
            tail[root] = i
    open_ = np.zeros(n, np.bool_)
    group = np.full(n, -1, np.int64)
    groups = 0
    chosen = np.zeros(len(ends), np.bool_)
    for e in range(len(ends)):
        a, b = _root(parent, ends[e, 0]), _root(parent, ends[e, 1])
        if a == b:
            continue
        if size[a] < size[b]:
            a, b = b, a
        square = squares[e]
        if (square <= least[a] and not open_[a]) or (square <= least[b] and not open_[b]):
            chosen[e] = True
            parent[b] = a
            least[a] = min(least[a], least[b])
            open_[a] = open_[a] or open_[b]
            size[a] += size[b]
            following[tail[a]] = b
            tail[a] = tail[b]
            continue
        if not (open_[a] and open_[b]):
            i = a if open_[b] else b
            while i >= 0:
                group[i] = groups
                i = following[i]
            groups += 1
        open_[a] = open_[b] = True
    if groups == 0:  # Lists that lead nowhere: each component but one.
        largest = np.argmax(size)
        for i in range(n):
            root = _root(parent, i)
            if root != largest:
                group[i] = root
    return np.flatnonzero(chosen), group


@njit(cache=True, nogil=True)
def _joined(ends: Array, parent: Array) -> Array:
    """Join components by edges, given in ascending order; return which closed no cycle."""
    chosen = np.zeros(len(ends), np.bool_)
    for e in range(len(ends)):
        a, b = _root(parent, ends[e, 0]), _root(parent, ends[e, 1])
        if a != b:
            chosen[e] = True
            parent[b] = a
    return np.flatnonzero(chosen)


def _shortest_leaving(
    points: Array, rounded: Array, error: float, group: Array, n_jobs: int
) -> Array:
    """Return the shortest edges that leave each group of points, in ascending order."""
    rows = np.flatnonzero(group >= 0)
    least = nearest_elsewhere(rounded, group, rows, n_jobs).astype(np.float64)
    smallest = np.full(len(group), np.inf)
    np.minimum.at(smallest, group[rows], least)
    # Of each group those that may have its shortest edge, by differences.
    rows = rows[least <= smallest[group[rows]] + 2 * error]
    nearest, squares = _exactly_nearest_elsewhere(points, group, rows)
    order = np.lexsort((squares, group[rows]))
    firsts = order[np.unique(group[rows][order], return_index=True)[1]]
    firsts = firsts[np.argsort(squares[firsts], kind="stable")]
    return np.stack([rows[firsts], nearest[firsts]], axis=1)


@njit(cache=True, nogil=True, parallel=True)
def _exactly_nearest_elsewhere(points: Array, group: Array, rows: Array) -> tuple[Array, Array]:
    nearest, squares = np.zeros(len(rows), np.int64), np.full(len(rows), np.inf)
    for r in prange(len(rows)):
        for j in range(len(points)):
            if group[j] != group[rows[r]]:
                square = square_double(points, rows[r], j)
                if square < squares[r]:
                    squares[r], nearest[r] = square, j
    return nearest, squares
