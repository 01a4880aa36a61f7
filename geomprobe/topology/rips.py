"""Vietoris-Rips persistent homology."""

from __future__ import annotations

import warnings
from math import comb
from typing import Any

import numpy as np

from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.topology.diagrams import Diagrams

# What ripser can represent: a coefficient has 8 signed bits, the number of a simplex 55. Beyond
# either it ends the process, so that nothing may reach it unchecked.
_LARGEST_COEFF = 127
_LARGEST_INDEX = 2**55 - 1
_LARGEST_DIM = 28  # H29 takes 60 points, and those have C(60, 30) > 2^55 simplices

# Bytes at the peak, measured over circles, polygons, tori, spheres, grids, clusters, walks and
# Gaussians of 60 to 5,000 points: the largest found, rounded up.
_BYTES_A_DISTANCE = 32
_BYTES_AN_EDGE_IN_H0 = 80
_BYTES_AN_EDGE = 1200  # of which most is fill-in: a polygon's; 100 to 200 without a large loop
_BYTES_A_SIMPLEX = 160


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
        Largest homology dimension, at most 28.
    metric : str
        A metric of ``scipy.spatial.distance.pdist``, or ``"precomputed"``.
    threshold : float, optional
        Largest edge to consider. Edges above the enclosing radius never matter, since nothing is
        born or dies there; ``None`` considers all that do.
    coeff : int
        Prime number of elements of the coefficient field, at most 127.

    Returns
    -------
    Diagrams
        Dimensions 0 to ``max_dim``, with an infinite bar of H0 for each component.

    Raises
    ------
    ValueError
        Fewer than two points, numbers that are not real, NaN or infinite rows, distances that are
        none, ``coeff`` not prime, a dimension or field that ripser cannot represent.
    MemoryEstimateError
        The estimate below exceeds half of the available memory.

    Notes
    -----
    Computed by ripser, in float32. Distances are taken from differences in float64, so that nearly
    equal points far from the origin keep their distances, and are brought to the order of 1 by a
    power of two, so that no scale overflows or underflows. Time and memory grow with the number of
    simplices: at most C(n, max_dim + 2) are visited.

    Memory is estimated as 32 bytes a distance, n^2 of them, and 1,200 bytes an edge of the complex
    (80 where ``max_dim`` is 0), and 160 bytes a simplex of each dimension from 2 to ``max_dim``.
    Edges are counted; simplices of dimension k are at most the sum of C(degree, k) / (k + 1) over
    the points, since each has k neighbours at each of its k + 1 points. This is an upper estimate,
    which held for every cloud that it was measured on, and not a bound: the reduced matrix has none
    that is of use. Clouds without one large loop take about a sixth of it in H1, and a third to all
    of it in H0 and H2.

    Homology in dimension k takes at least 2k + 2 points (Meshulam 2003), hence the largest
    ``max_dim``: ripser cannot number the simplices of 60 points.

    References
    ----------
    Bauer, U. (2021). Ripser: efficient computation of Vietoris-Rips persistence barcodes. Journal
    of Applied and Computational Topology 5. Tralie, C., Saul, N. and Bar-On, R. (2018). Ripser.py.
    Journal of Open Source Software 3(29). Meshulam, R. (2003). Domination numbers and homology.
    Journal of Combinatorial Theory A 102(2).
    """
    points = _checked(X, max_dim, metric, threshold, coeff)
    n = len(points)
    what = f"Rips persistence of {n} points up to dimension {max_dim}"
    require_memory(_BYTES_A_DISTANCE * n * n, what, "Use fewer points.")
    distances = points if metric == "precomputed" else _distances(points, metric)
    enclosing = float(distances.max(axis=1).min())
    limit = enclosing if threshold is None else min(float(threshold), enclosing)
    degrees = (distances <= limit).sum(axis=1) - 1
    remedy = "Use fewer points, a smaller threshold, or a smaller max_dim."
    require_memory(_memory(degrees.tolist(), max_dim), what, remedy)
    scale = 2.0 ** np.frexp(limit)[1]
    distances = distances / scale

    from ripser import ripser

    with warnings.catch_warnings():
        # It advises to transpose where there are more coordinates than points.
        warnings.simplefilter("ignore", UserWarning)
        # A little above the limit, since ripser rounds distances to float32.
        found = ripser(
            distances,
            maxdim=max_dim,
            thresh=np.nextafter(np.float32(limit / scale), np.float32(np.inf)),
            coeff=coeff,
            distance_matrix=True,
        )
    dgms = tuple(scale * np.asarray(dgm, dtype=np.float64) for dgm in found["dgms"])
    return Diagrams(dgms, "ripser", metric, int(coeff), limit, n)


def _memory(degrees: list[int], max_dim: int) -> int:
    """Estimate the peak in bytes from the number of neighbours of each point."""
    edges, *higher = (
        sum(comb(degree, dim) for degree in degrees) // (dim + 1)
        for dim in range(1, max(max_dim, 1) + 1)
    )
    an_edge = _BYTES_AN_EDGE if max_dim else _BYTES_AN_EDGE_IN_H0
    return _BYTES_A_DISTANCE * len(degrees) ** 2 + an_edge * edges + _BYTES_A_SIMPLEX * sum(higher)


def _distances(points: Array, metric: str) -> Array:
    from scipy.spatial.distance import pdist, squareform

    pairs = pdist(points, metric)
    unusable = int((~np.isfinite(pairs)).sum())
    if unusable:
        raise ValueError(
            f"metric {metric!r} gives {unusable} of {len(pairs)} pairs of points no finite "
            "distance; rescale the points, or leave out those where it is undefined (for 'cosine' "
            "zero, for 'correlation' constant)"
        )
    matrix: Array = squareform(pairs)
    return matrix


def _checked(X: Any, max_dim: int, metric: str, threshold: float | None, coeff: int) -> Array:
    if not isinstance(max_dim, int | np.integer) or not 0 <= max_dim <= _LARGEST_DIM:
        raise ValueError(
            f"max_dim must be a whole number from 0 to {_LARGEST_DIM}, got {max_dim!r}"
        )
    if not isinstance(coeff, int | np.integer) or coeff > _LARGEST_COEFF or not _is_prime(coeff):
        raise ValueError(f"coeff must be a prime number of at most {_LARGEST_COEFF}, got {coeff!r}")
    if threshold is not None and not threshold > 0:
        raise ValueError(f"threshold must be positive or None, got {threshold}")
    given = np.asarray(X)
    if given.ndim != 2 or len(given) < 2 or given.dtype.kind not in "fiub":
        raise ValueError(
            "X must be a real array of shape (n, d) with n of at least 2, "
            f"got shape {given.shape} and dtype {given.dtype}"
        )
    points = given.astype(np.float64, copy=False)
    n = len(points)
    if comb(n, min(n // 2, max_dim + 2)) > _LARGEST_INDEX:
        raise ValueError(
            f"{n} points have too many simplices up to dimension {max_dim + 1} for ripser to "
            "number, with or without a threshold; use fewer points or a smaller max_dim"
        )
    unusable = int((~np.isfinite(points)).any(axis=1).sum())
    if unusable:
        raise ValueError(f"{unusable} of {n} rows hold NaN or infinity; leave them out first")
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
