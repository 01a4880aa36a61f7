"""Minimum spanning trees: all of H0, and what total persistence and PH dimension stand on.

Also run by path in a process of its own, for :func:`spanning_forest`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from geomprobe.points import as_points
from geomprobe.storage import Array
from geomprobe.topology.filtration import Edges
from geomprobe.topology.graphs import require_distances
from geomprobe.values import ByValue

_SINGLE_EPS = 2.0**-24
# Where which algorithm is fastest, as measured by benchmarks/mst.py.
_TREE_DIM, _TREE_POINTS = 10, 2_000
_PRODUCT_POINTS, _PRODUCT_WORK = 1_000, 6e8
# Points as given, centred and rounded; lists of neighbours, and what sorts them by distance.
_BYTES_A_COORDINATE, _BYTES_A_POINT = 28, 800
#: Edges of a sparse graph: sorted, ranked, and as scipy has them.
BYTES_AN_EDGE = 128


@dataclass(frozen=True, eq=False)
class SpanningTree(ByValue):
    """A minimum spanning tree, or forest.

    Parameters
    ----------
    edges : int array of shape (m, 2)
        Pairs of points, in the order of their lengths; m is the number of points less that of
        components.
    lengths : array of shape (m,)
        Ascending.
    n_points : int
        Number of points.
    engine : str
        What computed it.
    """

    edges: Array
    lengths: Array
    n_points: int
    engine: str = ""

    def __len__(self) -> int:
        return len(self.lengths)

    def diagram(self) -> Array:
        """Return the persistence diagram of H0, of shape (m', 2), without bars of length zero."""
        deaths = self.lengths[self.lengths > 0]
        deaths = np.concatenate([deaths, np.full(self.n_points - len(self.lengths), np.inf)])
        return np.stack([np.zeros(len(deaths)), deaths], axis=1)

    def weighted_sum(self, alpha: float = 1.0) -> float:
        """Add up the lengths, each to the power alpha: E_alpha of the PH dimension."""
        return float((self.lengths**alpha).sum())


def euclidean_mst(X: Any, *, algorithm: str = "auto", n_jobs: int | None = None) -> SpanningTree:
    """Compute a minimum spanning tree of points under the Euclidean distance.

    Parameters
    ----------
    X : array of shape (n, d)
        Duplicates are legal.
    algorithm : {"auto", "prim", "products", "trees"}
        ``"prim"``: distances on the fly, best for small clouds. ``"products"``: neighbours by
        matrix products, best for large clouds of many dimensions. ``"trees"``: quitefastmst, best
        for few dimensions, if installed.
    n_jobs : int, optional
        Threads of ``"products"``; ``None``: all cores.

    Returns
    -------
    SpanningTree

    Raises
    ------
    ValueError
        Not a cloud of two points or more, all finite and not all equal; an unknown algorithm; no
        positive number of threads.

    Notes
    -----
    O(n d) memory and O(n^2 d) time, for ``"trees"`` O(n log n) in few dimensions. Points are
    centred, and single precision only rules out what it can tell to be longer: edges are chosen,
    and their lengths taken, by differences in double precision, so that nearly equal points far
    from the origin keep their distances.

    References
    ----------
    Prim, R. C. (1957). Shortest connection networks and some generalizations. Bell System
    Technical Journal 36. Borůvka, O. (1926). March, W. B., Ram, P. and Gray, A. G. (2010). Fast
    Euclidean minimum spanning tree. KDD.
    """
    known = ("auto", "prim", "products", "trees")
    if algorithm not in known:
        raise ValueError(f"algorithm must be one of {known}, got {algorithm!r}")
    if n_jobs is not None and n_jobs < 1:
        raise ValueError(f"n_jobs must be None, for all cores, or at least 1, got {n_jobs}")
    from geomprobe.topology.differences import squares_of

    points = as_points(X)
    points = np.subtract(points, points.mean(axis=0), order="C")
    # Of the order of 1, by a power of two, so that no square overflows or underflows.
    unit = 2.0 ** int(np.frexp(max(points.max(), -points.min()))[1])
    points /= unit
    n, d = points.shape
    if algorithm == "auto":
        few, many = d <= _TREE_DIM and n > _TREE_POINTS, n > _PRODUCT_POINTS
        algorithm = "prim"
        if few and find_spec("quitefastmst") is not None:
            algorithm = "trees"
        elif many and float(n) * n * d > _PRODUCT_WORK:
            algorithm = "products"
    if algorithm == "trees":
        edges, engine = _by_trees(points), "quitefastmst"
    elif algorithm == "products":
        from geomprobe.topology.certified import mst_by_products

        edges, engine = mst_by_products(points, n_jobs or os.cpu_count() or 1), "geomprobe"
    else:
        edges, engine = _by_prim(points), "geomprobe"
    return _sorted(edges, unit * np.sqrt(squares_of(points, edges)), n, engine)


def minimum_spanning_tree(distances: Any) -> SpanningTree:
    """Compute a minimum spanning tree of points with the given distances.

    Parameters
    ----------
    distances : array of shape (n, n)
        Symmetric, not negative, 0 on the diagonal. An infinite distance is no edge, so that there
        may be several components, and the result is a forest.

    Raises
    ------
    ValueError
        Not a square matrix of two points or more, or not such distances; the message says where.

    Notes
    -----
    O(n^2) time; O(n) memory beside the distances.
    """
    from geomprobe.topology.prim import prim_of_distances

    matrix = np.ascontiguousarray(distances, dtype=np.float64)
    require_distances(matrix)
    edges = prim_of_distances(matrix)
    return _sorted(edges, matrix[edges[:, 0], edges[:, 1]], len(matrix), "geomprobe")


def needed_bytes(n_points: int, dim: int) -> int:
    """Return an upper estimate of what :func:`euclidean_mst` takes."""
    return n_points * (_BYTES_A_COORDINATE * dim + _BYTES_A_POINT)


def at_most_seconds(n_points: int, *, dim: int = 0, edges: int = 0) -> float:
    """Return a time that trees stay well below: of points, of so many edges, or of a matrix."""
    if edges:
        return 4e-6 * edges
    return 1e-10 * n_points**2 * (dim + 64) if dim else 6.4e-8 * n_points**2


def spanning_forest(arrays: dict[str, Array], parameters: dict[str, Any]) -> dict[str, Array]:
    """Compute a minimum spanning forest, of plain arrays and as plain arrays.

    Parameters
    ----------
    arrays : dict
        ``points``, ``distances``, or ``rows``, ``columns`` and ``lengths`` of a sparse graph.
    parameters : dict
        ``n_points`` and ``n_jobs``.

    Returns
    -------
    dict
        ``edges``, ``lengths`` and ``engine``.
    """
    if "points" in arrays:
        tree = euclidean_mst(arrays["points"], n_jobs=parameters["n_jobs"])
    elif "distances" in arrays:
        tree = minimum_spanning_tree(arrays["distances"])
    else:
        tree = _by_scipy(arrays, parameters["n_points"])
    return {"edges": tree.edges, "lengths": tree.lengths, "engine": np.array(tree.engine)}


def _by_scipy(arrays: dict[str, Array], n_points: int) -> SpanningTree:
    from scipy.sparse import coo_matrix, csgraph, csr_matrix

    shape = (n_points, n_points)
    graph = coo_matrix((arrays["lengths"], (arrays["rows"], arrays["columns"])), shape=shape)
    # Of ranks, since scipy takes a length of zero for a missing edge.
    edges = Edges.of(graph, np.inf)
    ranks = np.arange(1.0, len(edges) + 1)
    weights: Any = csr_matrix((ranks, tuple(edges.ends.T)), shape=shape)
    kept = np.sort(csgraph.minimum_spanning_tree(weights).data).astype(np.int64) - 1
    return SpanningTree(edges.ends[kept], edges.lengths[kept], n_points, "scipy")


def _by_prim(points: Array) -> Array:
    from geomprobe.topology.prim import prim_of_points

    radius = float(np.sqrt(np.einsum("ij,ij->i", points, points).max()))
    relative = (points.shape[1] + 4) * _SINGLE_EPS
    return prim_of_points(points, relative, 2 * _SINGLE_EPS * radius)


def _by_trees(points: Array) -> Array:
    from quitefastmst import mst_euclid

    if points.shape[1] == 1:  # It wants two dimensions at least.
        points = np.column_stack([points, np.zeros(len(points))])
    found: Array = mst_euclid(points, 1)[1]
    return found.astype(np.int64)


def _sorted(edges: Array, lengths: Array, n_points: int, engine: str) -> SpanningTree:
    order = np.argsort(lengths, kind="stable")
    return SpanningTree(np.sort(edges[order], axis=1), lengths[order], n_points, engine)
