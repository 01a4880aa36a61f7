"""The maximum likelihood dimension of Levina and Bickel, from k nearest neighbours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.representation.finite_size import with_finite_size
from geomprobe.representation.neighbours import TIED, distinct_points, nearest_neighbours
from geomprobe.storage import Array


def levina_bickel(X: Any, k: int = 20, *, average: str = "inverse", seed: int = 0) -> Estimate:
    r"""Estimate the intrinsic dimension of a cloud by the distances to k neighbours of each point.

    With :math:`T_j` the distance to the j-th, the dimension at a point is the inverse of the mean
    of :math:`\log(T_k / T_j)` over j < k.

    Parameters
    ----------
    X : array of shape (n, d)
        Points; duplicates count once. At least 2 k distinct ones, and 8.
    k : int
        At least 3. More neighbours have less noise, and more bias.
    average : {"inverse", "plain"}
        Average inverse dimensions over the points, as the likelihood of all of them demands
        (MacKay and Ghahramani), or the dimensions, each without its bias, as first published.
    seed : int
        Seed of the halves of the cloud that the standard error is taken from.

    Returns
    -------
    Estimate
        With a standard error as that of :func:`two_nn`: of the n (k - 1) terms of the likelihood
        half are taken for independent, since a pair of mutual neighbours has two. NaN where all
        neighbours are equally far, for the plain average of any one point.

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
    points, duplicates = distinct_points(X)
    n, least = len(points), max(2 * k, 8)
    if n < least:
        raise ValueError(f"k={k} neighbours need {least} distinct points or more, got {n}")

    def dimension(rows: Array) -> float:
        neighbours = min(k, len(rows) - 1)
        _, distances = nearest_neighbours(points[rows], neighbours)
        sums = np.log(distances[:, -1:] / distances[:, :-1]).sum(axis=1)
        terms = neighbours - 1
        if average == "inverse":
            return float((sums.size * terms - 1) / sums.sum()) if sums.mean() > TIED else math.nan
        return float(((terms - 1) / sums).mean()) if sums.min() > TIED else math.nan

    return with_finite_size(
        dimension,
        n,
        method=f"Levina-Bickel, {k} neighbours, {average} average",
        note=f"{duplicates} duplicates left out" if duplicates else "",
        seed=seed,
        independent_terms=n * (k - 1) / 2 if average == "inverse" else None,
    )
