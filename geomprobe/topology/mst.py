"""Minimum spanning trees: all of H0, and what total persistence and PH dimension stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geomprobe.storage import Array
from geomprobe.values import ByValue


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


def euclidean_mst(X: Any, *, n_jobs: int | None = None) -> SpanningTree:
    """Compute a minimum spanning tree of points under the Euclidean distance."""
    from geomprobe.topology.prim import prim_of_points

    points = np.asarray(X, dtype=np.float64)
    points = np.ascontiguousarray(points - points.mean(axis=0))
    edges = prim_of_points(points)
    lengths = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    return _sorted(edges, lengths, len(points), "geomprobe")


def minimum_spanning_tree(distances: Any) -> SpanningTree:
    """Compute a minimum spanning tree of points with the given distances, of shape (n, n)."""
    from geomprobe.topology.prim import prim_of_distances

    matrix = np.ascontiguousarray(distances, dtype=np.float64)
    edges = prim_of_distances(matrix)
    return _sorted(edges, matrix[edges[:, 0], edges[:, 1]], len(matrix), "geomprobe")


def _sorted(edges: Array, lengths: Array, n_points: int, engine: str) -> SpanningTree:
    order = np.argsort(lengths, kind="stable")
    return SpanningTree(edges[order], lengths[order], n_points, engine)
