"""The edges of a Rips filtration in their order: what an engine sees, and what it found, in edges.

Homology depends on the order of the edges alone. An engine that is shown the rank of each edge in
place of its length says of every bar which edges give birth and death to it, whatever its own
precision, and the lengths of these edges are the bar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from geomprobe.storage import Array


@dataclass(frozen=True)
class Edges:
    """The edges of a filtration, from the shortest to the longest; ties in the order of points.

    Parameters
    ----------
    ends : int array of shape (m, 2)
        Points i < j.
    lengths : array of shape (m,)
        Ascending.
    n_points : int
    """

    ends: Array
    lengths: Array
    n_points: int

    @classmethod
    def of(cls, graph: Any, limit: float) -> Edges:
        """Return the edges of a matrix, or of a sparse graph with i < j, up to the limit."""
        if isinstance(graph, np.ndarray):
            places = np.flatnonzero(np.triu(graph <= limit, 1))
            first, second = np.divmod(places, len(graph))
            lengths = np.ravel(graph)[places]
        else:
            kept = graph.data <= limit
            first, second, lengths = graph.row[kept], graph.col[kept], graph.data[kept]
        # A stable sort takes four times as long, and differs only where there are ties.
        order = np.argsort(lengths)
        ascending = lengths[order]
        if (ascending[1:] == ascending[:-1]).any():
            order = np.argsort(lengths, kind="stable")
        return cls(np.stack([first[order], second[order]], axis=1), ascending, graph.shape[0])

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def limit(self) -> float:
        """Return a rank between that of the longest edge and that of what is no edge."""
        return len(self) + 0.5

    def rank_matrix(self, dtype: Any) -> Array:
        """Return the ranks, 1 for the shortest, as a dense symmetric matrix of shape (n, n)."""
        matrix = np.full((self.n_points, self.n_points), len(self) + 1, dtype=dtype)
        np.fill_diagonal(matrix, 0)
        ranks = np.arange(1, len(self) + 1)
        matrix[self.ends[:, 0], self.ends[:, 1]] = ranks
        matrix[self.ends[:, 1], self.ends[:, 0]] = ranks
        return matrix

    def bars(self, dgm: Any) -> tuple[Array, Array, Array]:
        """Turn a diagram of ranks into one of lengths.

        Parameters
        ----------
        dgm : array of shape (m, 2)
            Births and deaths in ranks: 0 for a point, ``inf`` for never.

        Returns
        -------
        dgm : array of shape (m', 2)
            Births and deaths; bars of length zero are left out.
        edges : int array of shape (m', 4)
            The edge that gives birth and the edge that gives death; -1 where there is none.
        kept : int array of shape (m',)
            Which bars these were.
        """
        ranks = np.asarray(dgm, dtype=np.float64).reshape(-1, 2)
        never = len(self) + 1
        places = np.where(np.isinf(ranks), never, ranks).astype(np.int64)
        lengths = np.concatenate([[0.0], self.lengths, [np.inf]])[places]
        ends = np.concatenate([[[-1, -1]], self.ends, [[-1, -1]]])[places].reshape(-1, 4)
        kept = np.flatnonzero(lengths[:, 0] < lengths[:, 1])
        return lengths[kept], ends[kept], kept
