"""The maximum likelihood dimension of Levina and Bickel, from k nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.representation.finite_size import with_finite_size
from geomprobe.representation.neighbours import distinct_points, nearest_distances
from geomprobe.storage import Array


def levina_bickel(X: Any, k: int = 20, *, average: str = "inverse", seed: int = 0) -> Estimate:
    r"""Estimate the intrinsic dimension of a cloud by the distances to k neighbours of each point.

    With :math:`T_j` the distance to the j-th, the dimension at a point is the inverse of the mean
    of :math:`\log(T_k / T_j)` over j < k.

    Parameters
    ----------
    X : array of shape (n, d)
        Points; duplicates count once. More than k + 1 distinct ones.
    k : int
        At least 3. More neighbours have less noise, and more bias.
    average : {"inverse", "plain"}
        Average inverse dimensions over the points, as the likelihood of all of them demands
        (MacKay and Ghahramani), or the dimensions, as first published.
    seed : int
        Seed of the halves of the cloud that the standard error is taken from.

    Returns
    -------
    Estimate
        With a standard error as that of :func:`two_nn`. Its part of sampling takes points for
        independent, although neighbours share neighbours.

    Raises
    ------
    ValueError
        Too few distinct points, k below 3, an unknown average, or no cloud.

    References
    ----------
    Levina, E. and Bickel, P. J. (2004). Maximum likelihood estimation of intrinsic dimension. NIPS.
    MacKay, D. J. C. and Ghahramani, Z. (2005). Comments on 'Maximum likelihood estimation of
    intrinsic dimension'.
    """
    if average not in ("inverse", "plain"):
        raise ValueError(f"average must be 'inverse' or 'plain', got {average!r}")
    if k < 3:
        raise ValueError(f"k must be at least 3, got {k}")
    points = distinct_points(X)
    if len(points) < max(2 * k, 8):
        raise ValueError(
            f"k={k} neighbours need {max(2 * k, 8)} distinct points or more, got {len(points)}"
        )

    def dimension(rows: Array) -> tuple[float, float]:
        nearest = nearest_distances(points[rows], k)
        sums = np.log(nearest[:, -1:] / nearest[:, :-1]).sum(axis=1)
        n = len(sums)
        if average == "inverse":
            value = (n * (k - 1) - 1) / sums.sum()
            return float(value), float(value / np.sqrt(n * (k - 1)))
        each = (k - 2) / sums
        return float(each.mean()), float(each.std(ddof=1) / np.sqrt(n))

    value, sampling = dimension(np.arange(len(points)))
    method = f"Levina-Bickel, {k} neighbours, {average} average"
    return with_finite_size(
        value, sampling, lambda rows: dimension(rows)[0], len(points), method, seed
    )
