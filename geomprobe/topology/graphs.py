"""What a Rips filtration is built on: a matrix of distances, or a sparse graph of edges."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import Any

import numpy as np

from geomprobe.storage import Array

#: Those of scipy by name.
METRICS = (
    *("braycurtis", "canberra", "chebyshev", "cityblock", "correlation", "cosine", "dice"),
    *("euclidean", "hamming", "jaccard", "jensenshannon", "mahalanobis", "minkowski"),
    *("rogerstanimoto", "russellrao", "seuclidean", "sokalsneath", "sqeuclidean", "yule"),
)


def as_graph(X: Any) -> Any:
    """Return precomputed distances as a float64 matrix, or as a sparse COO matrix with i < j.

    Parameters
    ----------
    X : array or sparse matrix of shape (n, n)
        Symmetric, of non-negative numbers, with a zero diagonal. Infinity, and what a sparse matrix
        does not store, is no edge. A sparse matrix may hold one triangle alone.

    Raises
    ------
    ValueError
        It is none of that; the message says where.
    """
    from scipy.sparse import issparse

    if issparse(X):
        return _sparse_graph(X)
    given = np.asarray(X)
    if given.ndim != 2 or len(given) < 2 or given.dtype.kind not in "fiub":
        raise ValueError(
            "precomputed distances must be a real array of shape (n, n) with n of at least 2, "
            f"got shape {given.shape} and dtype {given.dtype}"
        )
    matrix = given.astype(np.float64, copy=False)
    require_distances(matrix)
    if not matrix.any():
        raise ValueError(f"all {len(matrix)} points are equal, and a single point has no shape")
    return matrix


def require_distances(matrix: Array) -> None:
    """Raise ValueError unless a dense matrix holds distances of points; infinite ones are legal."""
    _require_square(matrix.shape)
    _require_lengths(matrix)
    if np.diag(matrix).any():
        raise ValueError("the distance of a point from itself must be 0: the diagonal is not")
    same = matrix == matrix.T
    if not same.all() and not np.allclose(matrix, matrix.T, rtol=1e-6, atol=0):
        i, j = np.unravel_index(np.argmin(same), matrix.shape)
        raise ValueError(
            f"distances must be symmetric, and entry ({i}, {j}) is {matrix[i, j]:g} while "
            f"({j}, {i}) is {matrix[j, i]:g}"
        )


def dense_distances(X: Any) -> Array:
    """Return precomputed distances as a float64 matrix, where none may be missing.

    Raises
    ------
    ValueError
        What :func:`as_graph` refuses, a sparse matrix, or an infinite distance.
    """
    matrix = as_graph(X)
    if not isinstance(matrix, np.ndarray) or not np.isfinite(matrix).all():
        raise ValueError("this needs all distances of the points, in a dense and finite matrix")
    return matrix


def _sparse_graph(X: Any) -> Any:
    from scipy.sparse import coo_matrix

    graph = coo_matrix(X, dtype=np.float64)
    _require_square(graph.shape)
    _require_lengths(graph.data)
    if graph.data[graph.row == graph.col].any():
        raise ValueError("the distance of a point from itself must be 0: the diagonal is not")
    kept = (graph.row != graph.col) & (graph.data < np.inf)
    rows, columns = graph.row[kept].astype(np.int64), graph.col[kept].astype(np.int64)
    first, second = np.minimum(rows, columns), np.maximum(rows, columns)
    _, index, inverse = np.unique(
        first * graph.shape[0] + second, return_index=True, return_inverse=True
    )
    lengths = graph.data[kept]
    if not np.allclose(lengths, lengths[index][inverse], rtol=1e-6, atol=0):
        raise ValueError(
            "distances must be symmetric, and some entry (i, j) differs from (j, i) or is stored "
            "twice with other values"
        )
    return coo_matrix((lengths[index], (first[index], second[index])), shape=graph.shape)


def _require_square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2:
        raise ValueError(
            f"precomputed distances must be a square matrix of 2 points or more, got shape {shape}"
        )


def _require_lengths(values: Array) -> None:
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} distances are NaN")
    if (values < 0).any():
        raise ValueError(f"distances cannot be negative, and the smallest is {values.min():g}")


def require_metric(metric: Any) -> None:
    """Raise ValueError unless it is ``"precomputed"``, or a metric of scipy's ``pdist``."""
    if callable(metric) or metric == "precomputed" or metric in METRICS:
        return
    from scipy.spatial.distance import pdist

    try:
        pdist(np.eye(3), metric)  # It has short names for some of them too, such as "cb".
    except (ValueError, TypeError) as error:
        near = get_close_matches(str(metric), METRICS, n=1)
        hint = f". Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"metric must be 'precomputed' or one of {list(METRICS)}, got {metric!r}{hint}"
        ) from error


def distance_matrix(points: Array, metric: str) -> Array:
    """Return the distances of points, of shape (n, n), under a metric of scipy's ``pdist``.

    Raises
    ------
    ValueError
        There is no such metric, or it is undefined for some pair.
    """
    require_metric(metric)
    if metric == "euclidean":
        from geomprobe.topology.metrics import euclidean_distances

        matrix: Array = euclidean_distances(points)
    else:
        from scipy.spatial.distance import pdist, squareform

        matrix = squareform(pdist(points, metric))
    if not np.isfinite(matrix.max()):
        unusable = int((~np.isfinite(matrix[np.triu_indices(len(matrix), 1)])).sum())
        raise ValueError(
            f"metric {metric!r} gives {unusable} of {math.comb(len(points), 2)} pairs of points no "
            "finite distance; rescale the points, or leave out those where it is undefined (for "
            "'cosine' zero, for 'correlation' constant)"
        )
    return matrix


def largest_edge(graph: Any, threshold: float | None) -> float:
    """Return the largest edge that matters.

    Nothing is born or dies above the enclosing radius, the least distance that some point has from
    all others: from there on the complex is a cone.
    """
    limit = np.inf if threshold is None else float(threshold)
    if not isinstance(graph, np.ndarray):
        return min(limit, float(graph.data.max(initial=0.0)))
    limit = min(limit, float(graph.max(axis=1).min()))
    return limit if limit < np.inf else float(graph[np.isfinite(graph)].max())


def extent(graph: Any, limit: float) -> tuple[Array, float]:
    """Return what the graph up to a limit is like.

    Returns
    -------
    degrees : int array of shape (n,)
        Number of neighbours of each point.
    spread : float
        Standard deviation of the lengths of the edges, of dense graphs at some of the points, over
        their mean.
    """
    if isinstance(graph, np.ndarray):
        degrees = (graph <= limit).sum(axis=1) - 1
        some = graph[:: 1 + len(graph) // 64]
        lengths = some[some <= limit]
    else:
        kept = graph.data <= limit
        ends = np.concatenate([graph.row[kept], graph.col[kept]])
        degrees = np.bincount(ends, minlength=graph.shape[0])
        lengths = graph.data[kept]
    mean = float(lengths.mean()) if len(lengths) else 0.0
    return degrees, float(lengths.std()) / mean if mean else 0.0


def length_at(graph: Any, limit: float, share: float) -> float:
    """Return the length up to which a share of the edges within the limit lies."""
    lengths = graph[np.triu_indices(len(graph), 1)] if isinstance(graph, np.ndarray) else graph.data
    return float(np.quantile(lengths[lengths <= limit], share))
