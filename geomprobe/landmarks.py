"""Farthest-first order of a point cloud: few points that cover it, and how well they do."""

from __future__ import annotations

import numpy as np

from geomprobe.storage import Array


def farthest_points(points: Array, k: int, *, start: int = 0) -> tuple[Array, Array]:
    """Order points greedily, each next one farthest from all before it.

    Parameters
    ----------
    points : array of shape (n, d)
        Finite points.
    k : int
        How many to choose; with k > n, all.
    start : int
        Index of the first.

    Returns
    -------
    order : int array of shape (min(k, n),)
        Indices of the chosen points, also known as the greedy permutation.
    radii : float array of the same shape
        ``radii[i]`` is the covering radius of the first i + 1: every point lies within it of one of
        them. It is at most twice the smallest covering radius that any i + 1 points could have.

    Notes
    -----
    O(k n d) time and O(n d) memory; distances are float64 differences. Ties go to the smaller
    index.

    References
    ----------
    Gonzalez, T. F. (1985). Clustering to minimize the maximum intercluster distance. Theoretical
    Computer Science 38.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise ValueError(f"points must be finite and of shape (n, d), got shape {points.shape}")
    if k < 1 or not -len(points) <= start < max(len(points), 1):
        raise ValueError(
            f"k must be at least 1 and start an index of the {len(points)} points, "
            f"got k={k} and start={start}"
        )
    size = min(k, len(points))
    order, radii = np.empty(size, np.int64), np.empty(size)
    nearest = np.full(len(points), np.inf)
    following = start % max(len(points), 1)
    for i in range(size):
        order[i] = following
        np.minimum(nearest, np.linalg.norm(points - points[following], axis=1), out=nearest)
        following = int(nearest.argmax())
        radii[i] = nearest[following]
    return order, radii
