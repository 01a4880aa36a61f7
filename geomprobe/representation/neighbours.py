"""Distances to the nearest neighbours, exact, and without duplicates."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.points import as_points
from geomprobe.storage import Array

# Of so many more neighbours than asked for, found by rounded distances, the nearest are exact.
_SPARE = 4
_BLOCK_ENTRIES = 2**22


def distinct_points(X: Any) -> Array:
    """Return the distinct points of a cloud, centred: duplicates have no neighbourhood of a size.

    Raises
    ------
    ValueError
        What is no cloud: see :func:`geomprobe.points.as_points`.
    """
    points = np.unique(as_points(X), axis=0)
    centred: Array = points - points.mean(axis=0)
    return centred


def nearest_distances(points: Array, k: int) -> Array:
    """Return the distances of each point to its k nearest others, ascending.

    Parameters
    ----------
    points : array of shape (n, d)
        Distinct points.
    k : int
        Less than n.

    Returns
    -------
    array of shape (n, k)

    Notes
    -----
    By scikit-learn's trees or matrix products; the distances are then taken from differences in
    float64, so that none of them is lost to rounding.
    """
    from sklearn.neighbors import NearestNeighbors

    n, d = points.shape
    # Without points of its own, kneighbors leaves each point out of its neighbours.
    search = NearestNeighbors(n_neighbors=min(n - 1, k + _SPARE)).fit(points)
    neighbours = search.kneighbors(return_distance=False)
    distances = np.empty(neighbours.shape)
    step = max(1, _BLOCK_ENTRIES // (neighbours.shape[1] * d))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        differences = points[neighbours[rows]] - points[rows, None]
        distances[rows] = np.sqrt(np.einsum("nkd,nkd->nk", differences, differences))
    distances.sort(axis=1)
    nearest: Array = distances[:, :k]
    return nearest
