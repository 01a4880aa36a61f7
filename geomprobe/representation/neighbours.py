"""Distances to the nearest neighbours, exact, and without duplicates."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.points import as_points
from geomprobe.storage import Array

#: Mean logarithm of ratios of distances below which these are ties, but for rounding.
TIED = 1e-6

_SPARE = 4
_NEGLIGIBLE = 1e-9  # Of a squared distance.
_BLOCK_ENTRIES = 2**22


def distinct_points(X: Any) -> tuple[Array, int]:
    """Return the distinct points of a cloud, centred, and how many duplicates were left out.

    A point and its duplicate have a distance of zero, and no ratio of distances.

    Raises
    ------
    ValueError
        What is no cloud: see :func:`geomprobe.points.as_points`.
    """
    given = as_points(X)
    # Points that differ by less than the rounding of the centred ones are duplicates too.
    points = np.unique(given - given.mean(axis=0), axis=0)
    return points, len(given) - len(points)


def nearest_neighbours(points: Array, k: int) -> tuple[Array, Array]:
    """Return the k nearest others of each point, and their distances in ascending order.

    Parameters
    ----------
    points : array of shape (n, d)
        Distinct and centred.
    k : int
        Less than n.

    Returns
    -------
    indices, distances : arrays of shape (n, k)

    Notes
    -----
    scikit-learn proposes a few more than k, by trees or by matrix products, and their distances
    are taken again from differences in float64. Where the rounding of matrix products could have
    hidden a nearer point, as in small clusters far apart, a point is compared with all others.
    O(n^2 d) time at worst, and memory in blocks.
    """
    from sklearn.neighbors import NearestNeighbors

    n, d = points.shape
    # So that no square overflows or vanishes; by a power of two nothing is rounded.
    extent = np.exp2(np.frexp(np.abs(points).max())[1])
    points = points / extent
    proposed = min(n - 1, k + _SPARE)
    # Without points of its own, kneighbors leaves each point out of its neighbours.
    rounded, indices = NearestNeighbors(n_neighbors=proposed).fit(points).kneighbors()
    indices, distances = _sorted(indices, _distances_to(points, indices), k)
    if proposed < n - 1:
        rounding = (d + 3) * np.finfo(np.float64).eps * 4 * (points**2).sum(axis=1).max()
        unsure = (distances[:, -1] ** 2 > rounded[:, -1] ** 2 - 2 * rounding) & (
            rounding > _NEGLIGIBLE * distances[:, 0] ** 2
        )
        rows = np.flatnonzero(unsure)
        for some in np.array_split(rows, len(rows) * n // _BLOCK_ENTRIES + 1):
            indices[some], distances[some] = _nearest_of_all(points, some, k)
    return indices, distances * extent


def _sorted(indices: Array, distances: Array, k: int) -> tuple[Array, Array]:
    order = np.argsort(distances, axis=1)[:, :k]
    return np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)


def _distances_to(points: Array, indices: Array) -> Array:
    distances = np.empty(indices.shape)
    step = max(1, _BLOCK_ENTRIES // (indices.shape[1] * points.shape[1]))
    for start in range(0, len(points), step):
        rows = slice(start, start + step)
        differences = points[indices[rows]] - points[rows, None]
        distances[rows] = np.sqrt(np.einsum("nkd,nkd->nk", differences, differences))
    return distances


def _nearest_of_all(points: Array, rows: Array, k: int) -> tuple[Array, Array]:
    from scipy.spatial.distance import cdist

    distances = cdist(points[rows], points)
    distances[np.arange(len(rows)), rows] = np.inf
    nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
    return _sorted(nearest, np.take_along_axis(distances, nearest, 1), k)
