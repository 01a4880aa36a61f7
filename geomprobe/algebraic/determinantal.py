"""Matrices of bounded rank: all critical points of the distance to a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.values import ByValue


@dataclass(frozen=True, eq=False)
class EckartYoung(ByValue):
    """All critical points of a distance; made by :func:`eckart_young_critical_points`.

    Parameters
    ----------
    subsets : int array of shape (c, r)
        Which singular triples each point keeps, from 0 for the largest.
    points : array of shape (c, m, n)
        The points themselves.
    distances : array of shape (c,)
        Frobenius distances to the matrix, rising.
    indices : int array of shape (c,)
        Morse index of the squared distance on the variety at each point.
    """

    subsets: Array
    points: Array
    distances: Array
    indices: Array

    def histogram(self) -> Array:
        """Return how many points have each index, from 0: a Gaussian binomial coefficient."""
        return np.bincount(self.indices)


def eckart_young_critical_points(matrix: Any, rank: int) -> EckartYoung:
    r"""Return every critical point of the distance from a matrix to those of a given rank.

    Parameters
    ----------
    matrix : array of shape (m, n)
        With singular values that differ and are not zero.
    rank : int
        From 1 to min(m, n).

    Returns
    -------
    EckartYoung
        The points :math:`\sum_{i \in I} \sigma_i u_i v_i^T` for the sets I of so many indices. The
        Morse index counts the pairs of an index that is kept and a larger singular value that is
        not.

    Raises
    ------
    ValueError
        No matrix of finite numbers, a rank out of range, or singular values that coincide or
        vanish: the critical points then are not isolated.
    MemoryEstimateError
        Too many points.

    Notes
    -----
    There are C(min(m, n), rank) points: O(C m n) time and memory.

    References
    ----------
    Eckart, C. and Young, G. (1936). The approximation of one matrix by another of lower rank.
    Psychometrika 1. Helmke, U. and Shayman, M. A. (1995). Critical points of matrix least squares
    distance functions. Linear Algebra and its Applications 215.
    """
    given = np.asarray(matrix, dtype=np.float64)
    if given.ndim != 2 or not given.size or not np.isfinite(given).all():
        raise ValueError(f"matrix must hold finite numbers, of shape (m, n); got {given.shape}")
    number = determinantal_ed_degree(given.shape[0], given.shape[1], rank)
    require_memory(
        16 * number * given.size, f"{number} matrices of shape {given.shape}", "Take a smaller one."
    )
    left, values, right = np.linalg.svd(given, full_matrices=False)
    if not are_distinct(values):
        raise ValueError(
            "singular values coincide or vanish, so that the critical points are not isolated: "
            f"{values}"
        )
    subsets = np.array(list(combinations(range(len(values)), rank)))
    points = np.stack([(left[:, s] * values[s]) @ right[s] for s in subsets])
    squares = np.array([np.square(np.delete(values, s)).sum() for s in subsets])
    indices = np.array([inversions(s) for s in subsets])
    order = np.argsort(squares, kind="stable")
    return EckartYoung(subsets[order], points[order], np.sqrt(squares[order]), indices[order])


def determinantal_ed_degree(rows: int, columns: int, rank: int) -> int:
    """Return how many critical points the distance to a generic matrix has at a given rank.

    Parameters
    ----------
    rows, columns : int
        Shape of the matrices.
    rank : int
        From 1 to the smaller of them.

    Returns
    -------
    int
        C(min(rows, columns), rank), the Euclidean distance degree of the variety of matrices of at
        most that rank. For other quadratic losses there are more.

    Raises
    ------
    ValueError
        Sizes below one, or a rank out of range.

    References
    ----------
    Draisma, J., Horobet, E., Ottaviani, G., Sturmfels, B. and Thomas, R. R. (2016). The Euclidean
    distance degree of an algebraic variety. Foundations of Computational Mathematics 16, example
    2.3.
    """
    if not 1 <= rank <= min(rows, columns):
        raise ValueError(
            f"rank must be from 1 to {min(rows, columns)}, the smaller side of a matrix of shape "
            f"({rows}, {columns}); got {rank}"
        )
    return comb(min(rows, columns), rank)


def gaussian_binomial(m: int, r: int) -> Array:
    """Return the coefficients of the Gaussian binomial [m, r] in q, from that of 1.

    Parameters
    ----------
    m, r : int
        With 0 <= r <= m.

    Returns
    -------
    int array of shape (r (m - r) + 1,)
        The k-th counts the subsets of r of m with k inversions: the critical points of index k of
        the distance from a generic matrix to those of rank r.

    Raises
    ------
    ValueError
        Numbers out of range.

    Notes
    -----
    By the recursion [m, r] = [m - 1, r - 1] + q^r [m - 1, r].
    """
    if not 0 <= r <= m:
        raise ValueError(f"r must be from 0 to m, got m={m} and r={r}")
    row = [np.ones(1, np.int64), *[np.zeros(0, np.int64)] * r]
    for total in range(1, m + 1):
        for k in range(min(total, r), 0, -1):
            longer = np.zeros(k * (total - k) + 1, np.int64)
            longer[: len(row[k - 1])] += row[k - 1]
            longer[k : k + len(row[k])] += row[k]
            row[k] = longer
    return row[r]


def inversions(subset: Sequence[int] | Array) -> int:
    """Count the pairs of an element of a set of indices and a smaller index that is not in it."""
    return int(sum(element - place for place, element in enumerate(sorted(subset))))


def are_distinct(values: Array) -> bool:
    """Tell whether falling singular values differ from each other and from zero."""
    apart = -np.diff(np.append(values, 0.0))
    return bool((apart > 1e-9 * values[0]).all())
