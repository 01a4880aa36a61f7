"""Distances between points, to the last digits also where points nearly coincide."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.storage import Array

# Squared distances below this share of the squared norms have lost their digits in the product of
# matrices, and are taken from differences.
_CANCELLED = 1e-5


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
    from geomprobe.topology.differences import finish_squares

    points = np.asarray(X, dtype=np.float64)
    points = np.ascontiguousarray(points - points.mean(axis=0))
    with np.errstate(over="ignore", invalid="ignore"):
        distances: Array = points @ points.T
    finish_squares(distances, points, np.diag(distances).copy(), _CANCELLED)
    return distances
