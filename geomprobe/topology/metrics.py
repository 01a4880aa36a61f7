"""Distances between points, to the last digits also where points nearly coincide."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.storage import Array

# Squared distances below this share of the squared norms have lost their digits in the product of
# matrices, and are taken from differences.
_CANCELLED = 1e-5
_BLOCK = 2**18


def euclidean_distances(X: Any) -> Array:
    """Return the Euclidean distances of points, of shape (n, n): symmetric, with a zero diagonal.

    Parameters
    ----------
    X : array of shape (n, d)

    Notes
    -----
    One matrix product of the centred points in float64, O(n^2 d) time and O(n^2) memory. Pairs so
    close that the product cancels are taken from their differences, so that the relative error
    stays near 1e-10 whatever the mean and the scale of the cloud. Distances whose squares overflow
    come out as infinity or NaN.
    """
    points = np.asarray(X, dtype=np.float64)
    points = points - points.mean(axis=0)
    with np.errstate(over="ignore"):
        distances: Array = points @ points.T
    squares = np.diag(distances).copy()
    rows = max(1, _BLOCK // len(points))
    for start in range(0, len(points), rows):
        block = distances[start : start + rows]
        scale = squares[start : start + rows, None] + squares
        block *= -2
        with np.errstate(invalid="ignore"):  # where squares overflow, distances come out as NaN
            block += scale
        close = np.flatnonzero(block < _CANCELLED * scale)
        np.sqrt(np.maximum(block, 0, out=block), out=block)
        first, second = np.unravel_index(close, block.shape)
        step = max(1, _BLOCK // points.shape[1])
        for part in range(0, len(close), step):
            i, j = first[part : part + step], second[part : part + step]
            # Taken in one order, so that rounding is the same in both triangles.
            low, high = np.minimum(start + i, j), np.maximum(start + i, j)
            block[i, j] = np.linalg.norm(points[low] - points[high], axis=1)
    np.fill_diagonal(distances, 0)
    return distances
