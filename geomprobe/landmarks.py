"""Farthest-first order of a point cloud: few points that cover it, and how well they do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geomprobe.storage import Array


def farthest_points(
    points: Array, k: int, *, start: int = 0, metric: str = "euclidean"
) -> tuple[Array, Array]:
    """Order points greedily, each next one farthest from all before it.

    Parameters
    ----------
    points : array of shape (n, d), or (n, n) with ``metric="precomputed"``
        Finite points, or their distances.
    k : int
        How many to choose; with k > n, all.
    start : int
        Index of the first.
    metric : {"euclidean", "precomputed"}

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
    if metric not in ("euclidean", "precomputed"):
        raise ValueError(f"metric must be 'euclidean' or 'precomputed', got {metric!r}")
    if k < 1 or not -len(points) <= start < max(len(points), 1):
        raise ValueError(
            f"k must be at least 1 and start an index of the {len(points)} points, "
            f"got k={k} and start={start}"
        )
    approach = _approach(points) if metric == "euclidean" else _approach_by_distances(points)
    size = min(k, len(points))
    order, radii = np.empty(size, np.int64), np.empty(size)
    nearest = np.full(len(points), np.inf)
    following = start % max(len(points), 1)
    for i in range(size):
        order[i] = following
        approach(nearest, following)
        following = int(nearest.argmax())
        radii[i] = nearest[following]
    return order, radii


def _approach(points: Array) -> Callable[[Array, int], None]:
    """Return what lowers each point's distance to the nearest landmark, given a new landmark."""
    centred = points - points.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    # By how much a square of a distance may be off that is computed from a product.
    slack = 4 * (points.shape[1] + 8) * np.finfo(np.float64).eps * squares.max(initial=0.0)

    def approach(nearest: Array, new: int) -> None:
        about = squares + squares[new] - 2 * (centred @ centred[new])
        # A product rules out most points, and so fast; the distances of the others are differences.
        rows = np.flatnonzero(~(about > nearest**2 + slack))
        distances = np.linalg.norm(points[rows] - points[new], axis=1)
        nearest[rows] = np.minimum(nearest[rows], distances)

    return approach


def _approach_by_distances(distances: Array) -> Callable[[Array, int], None]:
    def approach(nearest: Array, new: int) -> None:
        np.minimum(nearest, distances[new], out=nearest)

    return approach
