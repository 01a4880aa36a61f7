"""Distances between persistence diagrams: bottleneck and Wasserstein."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from geomprobe.memory import require_memory
from geomprobe.storage import Array
from geomprobe.topology.diagrams import as_bars

_BYTES_A_PAIR = 40  # The distance of two bars, and what it is worked out from.
_BYTES_A_MOVE = 32  # The same where each bar may also go to the diagonal.


def bottleneck_distance(dgm1: Any, dgm2: Any) -> float:
    """Return the bottleneck distance of two diagrams of one dimension.

    The least r such that bars can be matched one to one, each pair with births at most r apart and
    deaths at most r apart, and all bars left over being at most 2r long.

    Parameters
    ----------
    dgm1, dgm2 : arrays of shape (n, 2)
        Bars that never die are matched with each other, in the order of their births.

    Returns
    -------
    float
        Infinite where the diagrams do not have as many infinite bars.

    Raises
    ------
    ValueError
        One is no diagram, or a birth is infinite.
    MemoryEstimateError
        Without gudhi, which needs no matrix of distances.

    Notes
    -----
    By gudhi, if installed, to the last digits of float64. Otherwise by a binary search over the
    distances of bars. A set of bars in one diagram and a set in the other can be matched at once if
    each can be by itself (Mendelsohn and Dulmage 1958), so that two bipartite matchings, of the
    bars longer than 2r alone, tell whether r is enough. O(n^2) memory.

    Changing every distance of a finite metric space by at most e changes the bottleneck distance of
    its Rips diagrams, whose scale is the diameter of simplices, by at most e.

    References
    ----------
    Cohen-Steiner, D., Edelsbrunner, H. and Harer, J. (2007). Stability of persistence diagrams.
    Discrete & Computational Geometry 37. Chazal, F., de Silva, V. and Oudot, S. (2014). Persistence
    stability for geometric complexes. Geometriae Dedicata 173, Theorem 5.2.
    """
    first, second, gaps = _split(dgm1, dgm2)
    if gaps is None:
        return np.inf
    if find_spec("gudhi") is not None:
        from gudhi import bottleneck_distance as by_gudhi

        finite = float(by_gudhi(first, second))
    else:
        finite = _bottleneck(first, second)
    return max(finite, float(gaps.max(initial=0.0)))


def wasserstein_distance(
    dgm1: Any,
    dgm2: Any,
    order: float = 1.0,
    *,
    ground_norm: float = np.inf,
    relative_error: float = 0.0,
) -> float:
    """Return the Wasserstein distance of two diagrams of one dimension.

    With q = ``order``, the least (sum of ||x - y||^q over matched pairs of points x and y, and of
    the distance from the diagonal to the power q over points left over)^(1/q).

    Parameters
    ----------
    dgm1, dgm2 : arrays of shape (n, 2)
        Bars that never die are matched with each other, in the order of their births.
    order : float
        At least 1; ``inf`` gives the bottleneck distance, whose ground norm is the maximum.
    ground_norm : float
        The norm in the plane: ``inf`` (births and deaths, whichever differ more), 2 or 1, or any
        p of at least 1. The distance of a bar from the diagonal is its length times 2^(1/p - 1).
        Libraries differ here: gudhi's default is this one, persim's is order 1 and ground norm 2.
    relative_error : float
        Above 0, gudhi's approximation to this error, if installed; else exact.

    Returns
    -------
    float
        Infinite where the diagrams do not have as many infinite bars.

    Raises
    ------
    ValueError
        One is no diagram, a birth is infinite, an order or norm is below 1.
    MemoryEstimateError
        The matrix of distances would not fit.

    Notes
    -----
    An exact assignment of the n bars of both diagrams, each to one of the other or to the diagonal:
    O(n^2) memory and O(n^3) time.

    References
    ----------
    Cohen-Steiner, D., Edelsbrunner, H., Harer, J. and Mileyko, Y. (2010). Lipschitz functions have
    L_p-stable persistence. Foundations of Computational Mathematics 10. Kerber, M., Morozov, D. and
    Nigmetov, A. (2017). Geometry helps to compare persistence diagrams. ACM Journal of Experimental
    Algorithmics 22.
    """
    _require_norms(order, ground_norm)
    if not relative_error >= 0:
        raise ValueError(f"relative_error cannot be negative, got {relative_error}")
    if np.isinf(order):
        if not np.isinf(ground_norm):
            raise ValueError(f"order=inf takes ground_norm=inf, got {ground_norm}")
        return bottleneck_distance(dgm1, dgm2)
    first, second, gaps = _split(dgm1, dgm2)
    if gaps is None:
        return np.inf
    if relative_error and find_spec("gudhi") is not None:
        from gudhi.hera import wasserstein_distance as by_hera

        moved = np.array([by_hera(first, second, order, ground_norm, relative_error)])
    else:
        moved = _assigned(first, second, order, ground_norm)[1]
    parts = np.append(gaps, moved)
    largest = float(parts.max(initial=0.0))
    # In units of the largest, so that no power overflows or underflows.
    return largest * float(((parts / largest) ** order).sum()) ** (1 / order) if largest else 0.0


def matching(
    dgm1: Any, dgm2: Any, order: float = 2.0, *, ground_norm: float = np.inf
) -> tuple[Array, Array, Array]:
    """Return the matching that gives the Wasserstein distance, of the bars that die.

    Parameters
    ----------
    dgm1, dgm2, order, ground_norm
        As for :func:`wasserstein_distance`, with a finite order.

    Returns
    -------
    pairs : int array of shape (k, 2)
        Rows of the first diagram, and those of the second that they are matched with.
    alone, alone_in_second : int arrays
        Rows of each that are left to the diagonal. Bars that never die are in none of the three.
    """
    _require_norms(order, ground_norm)
    if np.isinf(order):
        raise ValueError(
            "order must be finite: a bottleneck matching is not unique where it counts"
        )
    rows = [np.flatnonzero(np.isfinite(as_bars(dgm)[:, 1])) for dgm in (dgm1, dgm2)]
    first, second = (as_bars(dgm)[row] for dgm, row in zip((dgm1, dgm2), rows, strict=True))
    partner = _assigned(first, second, order, ground_norm)[0][: len(first)]
    both = partner < len(second)
    pairs = np.stack([rows[0][both], rows[1][partner[both]]], axis=1)
    return pairs, rows[0][~both], np.delete(rows[1], partner[both])


def _require_norms(order: float, ground_norm: float) -> None:
    if not order >= 1 or not ground_norm >= 1:
        raise ValueError(f"order and ground_norm must be at least 1, got {order} and {ground_norm}")


def _split(dgm1: Any, dgm2: Any) -> tuple[Array, Array, Array | None]:
    """Return the bars that die, and by how much the births of the others differ, if they can."""
    finite, births = [], []
    for dgm in (dgm1, dgm2):
        bars = as_bars(dgm)
        if np.isinf(bars[:, 0]).any():
            raise ValueError(f"{int(np.isinf(bars[:, 0]).sum())} bars have an infinite birth")
        dies = np.isfinite(bars[:, 1])
        finite.append(bars[dies & (bars[:, 0] < bars[:, 1])])
        births.append(np.sort(bars[~dies, 0]))
    gaps = np.abs(births[0] - births[1]) if len(births[0]) == len(births[1]) else None
    return finite[0], finite[1], gaps


def _require_memory(needed: int, first: Array, second: Array) -> None:
    require_memory(
        needed,
        f"The distance of diagrams of {len(first)} and {len(second)} bars",
        "Leave out the shortest bars: each moves by half its length. Or install gudhi, which needs "
        "less for the bottleneck distance and for a relative_error above 0.",
    )


def _ground_distances(first: Array, second: Array, norm: float) -> Array:
    births, deaths = np.abs(first[:, None] - second[None]).transpose(2, 0, 1)
    larger, smaller = np.maximum(births, deaths), np.minimum(births, deaths)
    distances: Array = larger
    if np.isinf(norm):
        return distances
    ratio = np.divide(smaller, larger, out=np.zeros_like(larger), where=larger > 0)
    distances = larger * (1 + ratio**norm) ** (1 / norm)
    return distances


def _diagonal_distances(bars: Array, norm: float) -> Array:
    distances: Array = (bars[:, 1] - bars[:, 0]) * 2.0 ** (1 / norm - 1)
    return distances


def _bottleneck(first: Array, second: Array) -> float:
    _require_memory(_BYTES_A_PAIR * len(first) * len(second), first, second)
    distances = _ground_distances(first, second, np.inf)
    halves = [_diagonal_distances(bars, np.inf) for bars in (first, second)]
    # More than leaving all bars to the diagonal costs, no matching needs.
    most = max(float(half.max(initial=0.0)) for half in halves)
    candidates = np.unique(np.concatenate([[0.0], *halves, distances[distances < most]]))
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        if _is_enough(candidates[middle], distances, *halves):
            high = middle
        else:
            low = middle + 1
    return float(candidates[low])


def _is_enough(radius: float, distances: Array, first: Array, second: Array) -> bool:
    """Whether all bars further than the radius from the diagonal can be matched within it."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    within = distances <= radius
    for graph in (within[first > radius], within.T[second > radius]):
        if len(graph) > graph.shape[1] or not graph.any(axis=1).all():
            return False
        if len(graph):
            matched = maximum_bipartite_matching(csr_matrix(graph), perm_type="column")
            if (matched < 0).any():
                return False
    return True


def _assigned(first: Array, second: Array, order: float, norm: float) -> tuple[Array, Array]:
    """Return where each of m bars goes, to one of n others or beyond them, and how far all move."""
    from scipy.optimize import linear_sum_assignment

    m, n = len(first), len(second)
    _require_memory(_BYTES_A_MOVE * (m + n) ** 2, first, second)
    # To the right of the bars of the second diagram, and below those of the first, the diagonal.
    distances = np.zeros((m + n, m + n))
    distances[:m, :n] = _ground_distances(first, second, norm)
    distances[:m, n:] = _diagonal_distances(first, norm)[:, None]
    distances[m:, :n] = _diagonal_distances(second, norm)
    unit = float(distances.max(initial=0.0)) or 1.0
    rows, columns = linear_sum_assignment((distances / unit) ** order)
    return columns, distances[rows, columns]
