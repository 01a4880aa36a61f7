"""Vietoris-Rips persistent homology."""

from __future__ import annotations

import warnings
from math import comb
from typing import Any

import numpy as np

from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.topology.diagrams import Diagrams

_BYTES_A_SIMPLEX = 16  # ripser's diameter (float32) and index (int64), aligned


def rips_persistence(
    X: Any,
    max_dim: int = 1,
    *,
    metric: str = "euclidean",
    threshold: float | None = None,
    coeff: int = 2,
) -> Diagrams:
    """Compute the Vietoris-Rips persistence diagrams of a point cloud.

    Parameters
    ----------
    X : array of shape (n, d), or (n, n) with ``metric="precomputed"``
        Points, or their distances. Duplicates are legal.
    max_dim : int
        Largest homology dimension.
    metric : str
        A metric of ``scipy.spatial.distance.pdist``, or ``"precomputed"``.
    threshold : float, optional
        Largest edge to consider. ``None``: the enclosing radius, above which nothing is born or
        dies but the one component.
    coeff : int
        Prime number of elements of the coefficient field.

    Returns
    -------
    Diagrams
        Dimensions 0 to ``max_dim``, with the one infinite bar of H0.

    Raises
    ------
    ValueError
        Fewer than two points, NaN or infinite rows, distances that are none, ``coeff`` not prime.
    MemoryEstimateError
        The estimate below exceeds half of the available memory.

    Notes
    -----
    Computed by ripser, in float32. Distances are taken from differences in float64, so that nearly
    equal points far from the origin keep their distances. Time and memory grow with the number of
    simplices: at most C(n, max_dim + 2) are visited. Memory is estimated as the distance matrix
    and 16 bytes for each of the C(n, max_dim + 1) simplices that become columns; ripser clears
    most of them, so this is an upper bound for n points without structure.

    References
    ----------
    Bauer, U. (2021). Ripser: efficient computation of Vietoris-Rips persistence barcodes. Journal
    of Applied and Computational Topology 5. Tralie, C., Saul, N. and Bar-On, R. (2018). Ripser.py.
    Journal of Open Source Software 3(29).
    """
    points = _checked(X, max_dim, metric, threshold, coeff)
    n = len(points)
    require_memory(
        16 * n * n + _BYTES_A_SIMPLEX * comb(n, max_dim + 1),
        f"Rips persistence of {n} points up to dimension {max_dim}",
        "Use fewer points, a threshold, or a smaller max_dim.",
    )
    distances = points if metric == "precomputed" else _distances(points, metric)
    enclosing = float(distances.max(axis=1).min())
    limit = enclosing if threshold is None else float(threshold)

    from ripser import ripser

    with warnings.catch_warnings():
        # It advises to transpose where there are more coordinates than points.
        warnings.simplefilter("ignore", UserWarning)
        # A little above the enclosing radius, since ripser rounds distances to float32.
        found = ripser(
            distances,
            maxdim=max_dim,
            thresh=np.nextafter(np.float32(limit), np.float32(np.inf)),
            coeff=coeff,
            distance_matrix=True,
        )
    return Diagrams(tuple(found["dgms"]), "ripser", metric, coeff, limit, n)


def _distances(points: Array, metric: str) -> Array:
    from scipy.spatial.distance import pdist, squareform

    matrix: Array = squareform(pdist(points, metric))
    return matrix


def _checked(X: Any, max_dim: int, metric: str, threshold: float | None, coeff: int) -> Array:
    if not isinstance(max_dim, int | np.integer) or max_dim < 0:
        raise ValueError(f"max_dim must be a whole number of at least 0, got {max_dim!r}")
    if not _is_prime(coeff):
        raise ValueError(f"coeff must be a prime number, got {coeff}")
    if threshold is not None and not threshold > 0:
        raise ValueError(f"threshold must be positive or None, got {threshold}")
    points = np.asarray(X, dtype=np.float64)
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(
            f"X must be an array of shape (n, d) with n of at least 2, got shape {points.shape}"
        )
    unusable = int((~np.isfinite(points)).any(axis=1).sum())
    if unusable:
        raise ValueError(
            f"{unusable} of {len(points)} rows hold NaN or infinity; leave them out first"
        )
    if metric == "precomputed":
        _require_distances(points)
    return points


def _require_distances(matrix: Array) -> None:
    n, m = matrix.shape
    if n != m:
        raise ValueError(f"precomputed distances must be a square matrix, got shape {(n, m)}")
    if (matrix < 0).any():
        raise ValueError(f"distances cannot be negative, and the smallest is {matrix.min():g}")
    if np.diag(matrix).any():
        raise ValueError("the distance of a point from itself must be 0: the diagonal is not")
    if not np.allclose(matrix, matrix.T, rtol=1e-6, atol=0):
        i, j = np.unravel_index(np.abs(matrix - matrix.T).argmax(), matrix.shape)
        raise ValueError(
            f"distances must be symmetric, and entry ({i}, {j}) is {matrix[i, j]:g} while "
            f"({j}, {i}) is {matrix[j, i]:g}"
        )


def _is_prime(number: int) -> bool:
    return number >= 2 and all(number % k for k in range(2, int(number**0.5) + 1))
