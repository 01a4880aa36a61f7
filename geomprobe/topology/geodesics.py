"""Distances along the graph of nearest neighbours: the shape of a cloud whatever its density."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.memory import require_memory
from geomprobe.points import as_points
from geomprobe.storage import Array
from geomprobe.topology.metrics import euclidean_distances

_BYTES_A_PAIR = 40  # The distances before and after, neighbours, and the graph.


def geodesic_distances(X: Any, k: int = 14, *, weighted: bool = False) -> Array:
    """Return the distances along the symmetric k-nearest-neighbour graph.

    Parameters
    ----------
    X : array of shape (n, d)
        Points; duplicates are legal.
    k : int
        Two points are joined where one is among the k nearest others of the other; from 1 to
        n - 1. The code published with the paper counts a point among its own k.
    weighted : bool
        Whether an edge is as long as its points are far apart. By default it counts 1, so that a
        distance is the least number of edges, and has no unit.

    Returns
    -------
    array of shape (n, n)
        Infinite between points that no path joins: to Rips persistence that is no edge, so that
        each component keeps an infinite bar in H0. (The published code sets 1000 there.)

    Raises
    ------
    ValueError
        What ``rips_persistence`` refuses, or k out of its range.
    MemoryEstimateError
        The n^2 distances would not fit.

    Notes
    -----
    O(n^2 (d + k + log n)) time. Of neighbours that are equally far, which are taken is arbitrary.

    References
    ----------
    Naitzat, G., Zhitnikov, A. and Lim, L.-H. (2020). Topology of deep neural networks. JMLR 21.
    Tenenbaum, J. B., de Silva, V. and Langford, J. C. (2000). A global geometric
    framework for nonlinear dimensionality reduction. Science 290.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import shortest_path

    points = as_points(X)
    n = len(points)
    if not 1 <= k < n:
        raise ValueError(f"k must be from 1 to {n - 1}, the number of other points, got {k}")
    what = f"The geodesic distances of {n} points"
    require_memory(_BYTES_A_PAIR * n**2, what, "Use fewer points.")
    distances = euclidean_distances(points)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
    joined = np.zeros((n, n), bool)
    np.put_along_axis(joined, nearest, True, axis=1)
    joined |= joined.T
    ends = np.nonzero(joined)
    # Stored zeros are edges to scipy, between duplicates.
    lengths = distances[ends] if weighted else np.ones(len(ends[0]))
    graph: Any = csr_matrix((lengths, ends), shape=(n, n))
    found = shortest_path(graph, method="D", directed=False)
    # Both directions of a path add up in another order.
    symmetric: Array = np.minimum(found, found.T)
    return symmetric
