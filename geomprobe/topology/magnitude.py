"""Magnitude: the effective number of points of a metric space, at a scale."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.memory import require_memory
from geomprobe.points import as_points
from geomprobe.storage import Array
from geomprobe.topology.graphs import as_graph, distance_matrix

# What is added to the diagonal of the similarity matrix, which is 1, where it has no inverse.
_JITTERS = (1e-12, 1e-10, 1e-8, 1e-6)
# Where the inverse of the condition number is less, weights have lost their digits.
_SINGULAR = 1e-13


def magnitude(
    X: Any, scale: float = 1.0, *, metric: str = "euclidean", positive: bool = False
) -> Estimate:
    """Compute the magnitude of a finite metric space.

    The weighting w solves Z w = 1, where Z = exp(-scale * distances); the magnitude is the sum of
    the weights. It rises from 1, where all points seem one, to their number, where all lie apart.

    Parameters
    ----------
    X : array of shape (n, d), or (n, n) with ``metric="precomputed"``
        Points, or their distances. Points at distance 0 count as one.
    scale : float
        Positive; that by which all distances are multiplied.
    metric : str
        A metric of ``scipy.spatial.distance.pdist``, or ``"precomputed"``.
    positive : bool
        Add up the positive weights only: the positive magnitude. The bounds of Andreeva et al. take
        it at the square root of the number of training samples.

    Returns
    -------
    Estimate
        Exact, unless Z had to be given jitter to have an inverse; the note says how much then, and
        the standard error is the change that ten times less or more of it makes. NaN with the
        reason where jitter does not help.

    Raises
    ------
    ValueError
        Bad points or distances, or a scale that is not positive.
    MemoryEstimateError
        Z does not fit.

    Notes
    -----
    O(n^3) time, by Cholesky decomposition, and 16 n^2 bytes. Z is positive definite for Euclidean
    distances and for those of l1 (Meckes 2013), among them
    :func:`~geomprobe.topology.loss_pseudometric`; for other metrics the decomposition may fail, and
    the system is then solved without it.

    References
    ----------
    Leinster, T. (2013). The magnitude of metric spaces. Documenta Mathematica 18. Andreeva, R.,
    Dupuis, B., Sarkar, R., Birdal, T. and Şimşekli, U. (2024). Topological generalization bounds
    for discrete-time stochastic optimization algorithms. NeurIPS. Meckes, M. W. (2013). Positive
    definite metric spaces. Positivity 17.
    """
    if not (scale > 0 and np.isfinite(scale)):
        raise ValueError(f"scale must be positive and finite, got {scale}")
    graph = as_graph(X) if metric == "precomputed" else as_points(X)
    n = graph.shape[0]
    what = f"The magnitude of {n} points"
    require_memory(16 * n * n, what, "Take every second point, for instance.")
    distances = graph if metric == "precomputed" else distance_matrix(graph, metric)
    if not isinstance(distances, np.ndarray):
        raise ValueError("magnitude needs all distances: give a dense matrix")
    kept = _distinct(distances)
    similarities = np.exp(-scale * distances[np.ix_(kept, kept)])
    weights, jitter = _weighting(similarities)
    name = "positive magnitude" if positive else "magnitude"
    method = f"{name} at scale {scale:.4g}"

    def total(weights: Array) -> float:
        return float((np.maximum(weights, 0) if positive else weights).sum())

    value = total(weights)
    if np.isnan(value):
        reason = "the points lie too close for this scale, and the weighting cannot be computed"
        return Estimate.undefined(reason, n=n, method=method)
    if jitter == 0:
        return Estimate(value, exact=True, n=n, method=method)
    others = [total(_solved(similarities, factor * jitter)) for factor in (0.1, 10.0)]
    note = f"jitter of {jitter:.0e} added to the diagonal: the points lie too close for this scale"
    changes = [abs(other - value) for other in others if np.isfinite(other)]
    return Estimate(value, max(changes, default=np.nan), n=n, method=method, note=note)


def _distinct(distances: Array) -> Array:
    """Return one point of each set of points that coincide."""
    same = distances == 0
    return np.flatnonzero(same.argmax(axis=1) == np.arange(len(distances)))


def _weighting(similarities: Array) -> tuple[Array, float]:
    """Return the weights, and what had to be added to the diagonal; NaN where nothing helps."""
    for jitter in (0.0, *_JITTERS):
        weights = _solved(similarities, jitter)
        residual = np.abs(similarities @ weights + jitter * weights - 1).max()
        if residual < 1e-6:
            break
    return weights, jitter


def _solved(similarities: Array, jitter: float) -> Array:
    """Solve for the weights; NaN where the matrix is singular in double precision."""
    from scipy import linalg

    matrix = similarities + jitter * np.eye(len(similarities))
    ones = np.ones(len(matrix))
    nothing = np.full(len(matrix), np.nan)
    try:
        factor = linalg.cho_factor(matrix)
    except linalg.LinAlgError:  # Indefinite.
        with warnings.catch_warnings():
            warnings.simplefilter("error", linalg.LinAlgWarning)
            try:
                weights: Array = linalg.solve(matrix, ones, assume_a="sym")
            except (linalg.LinAlgError, linalg.LinAlgWarning):
                return nothing
            return weights
    condition, _ = linalg.lapack.dpocon(factor[0], np.abs(matrix).sum(axis=0).max())
    return linalg.cho_solve(factor, ones) if condition > _SINGULAR else nothing
