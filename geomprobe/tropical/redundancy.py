"""Which of many affine functions are the largest somewhere: an upper hull, or linear programs."""

from __future__ import annotations

import numpy as np

from geomprobe.storage import Array

#: What a function must exceed the others by somewhere, over the spread of slopes and constants.
MARGIN = 1e-9

#: Beyond as many dimensions a convex hull has too many facets.
_MOST_HULL = 5
_RAYS = 64


def essential_terms(slopes: Array, constants: Array) -> tuple[Array, Array]:
    r"""Return which of the functions :math:`a_i \cdot x + c_i` are the only largest one somewhere.

    Parameters
    ----------
    slopes : float64 array of shape (m, d)
    constants : float64 array of shape (m,)

    Returns
    -------
    indices : int array of shape (k,)
        Ascending. Of equal functions, one.
    points : float64 array of shape (n, d)
        The vertices of their cells; where slopes span more than 5 dimensions, a point inside each.

    Notes
    -----
    They are the vertices of the upper hull of the points (a_i, c_i), found by Qhull where slopes
    span at most 5 dimensions. Beyond, one linear program for each function that is not found by
    chance, with a constraint for each that was found so far (Clarkson). What exceeds the others by
    no more than 1e-9 of the spread counts as redundant.

    References
    ----------
    Clarkson, K. L. (1994). More output-sensitive geometric algorithms. FOCS. Barber, C. B.,
    Dobkin, D. P. and Huhdanpaa, H. (1996). The Quickhull algorithm for convex hulls. ACM TOMS 22.
    """
    # An affine function added to all, and a change of units, move no answer.
    a, c = slopes - slopes.mean(axis=0), constants - constants.mean()
    steepest, highest = float(np.abs(a).max(initial=0.0)), float(np.abs(c).max())
    if len(a) == 1 or steepest == 0:
        return np.array([int(np.argmax(constants))]), np.zeros((1, slopes.shape[1]))
    a, c = a / steepest, c / (highest or 1.0)
    _, lengths, axes = np.linalg.svd(a, full_matrices=False)
    axes = axes[lengths > MARGIN * lengths[0]]
    a = a @ axes.T
    found = _by_hull(a, c) if len(axes) <= _MOST_HULL else _by_programs(a, c)
    return found[0], (highest or 1.0) / steepest * (found[1] @ axes)


def _by_hull(a: Array, c: Array) -> tuple[Array, Array]:
    from scipy.spatial import ConvexHull

    # A point far below makes the hull a body; it is seen from below only.
    lifted = np.vstack([np.column_stack([a, c]), [*a.mean(axis=0), -3.0]])
    hull = ConvexHull(lifted)
    upper = hull.equations[:, -2] > MARGIN
    indices = np.unique(hull.simplices[upper])
    normals = hull.equations[upper]
    return indices[indices < len(a)], normals[:, :-2] / normals[:, -2:-1]


def _by_programs(a: Array, c: Array) -> tuple[Array, Array]:
    d = a.shape[1]
    rng = np.random.default_rng(0)
    found: dict[int, Array] = {}
    left = np.ones(len(a), dtype=bool)

    def take(point: Array) -> bool:
        """Take the function that is largest at a point, if it is the only one."""
        heights = np.where(left, a @ point + c, -np.inf)
        second, first = np.argpartition(heights, -2)[-2:]
        if heights[first] - heights[second] <= MARGIN:
            return False
        found.setdefault(int(first), point)
        return True

    for scale in (0.3, 1.0, 3.0, 10.0, 100.0):
        for point in scale * rng.standard_normal((_RAYS, d)):
            take(point)
    for candidate in range(len(a)):
        while left[candidate] and candidate not in found:
            point, margin = _where_it_exceeds(a, c, candidate, sorted(found))
            # The largest one there, off the places where several are equal.
            shifts = margin / (4 * d) * rng.uniform(-1, 1, (10, d))
            if margin <= MARGIN or not any(take(point + shift) for shift in shifts):
                left[candidate] = False
    indices = np.array(sorted(found))
    return indices, np.array([found[i] for i in indices])


def _where_it_exceeds(a: Array, c: Array, candidate: int, others: list[int]) -> tuple[Array, float]:
    """Return the point where a function exceeds others by most, or by 1, and by how much."""
    from scipy.optimize import linprog

    d = a.shape[1]
    beaten = np.array(others, dtype=np.int64)
    gaps, offsets = a[candidate] - a[beaten], c[candidate] - c[beaten]
    # As exactly as can be; where rounding stops the solver, by its own tolerance.
    for options in ({"primal_feasibility_tolerance": 1e-10}, {}):
        solution = linprog(
            np.append(np.zeros(d), -1.0),
            A_ub=np.hstack([-gaps, np.ones((len(beaten), 1))]),
            b_ub=offsets,
            bounds=[*[(None, None)] * d, (None, 1.0)],
            options=options,
        )
        if solution.x is not None:
            break
    else:
        raise ArithmeticError(f"a linear program of {len(beaten)} constraints: {solution.message}")
    point = np.asarray(solution.x[:d])
    return point, float((gaps @ point + offsets).min(initial=1.0))
