"""Dimensions of the linear kind: how many directions the covariance of a cloud fills."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.points import as_points
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array

_RANK_ME_OFFSET = 1e-7  # Of Garrido et al.


def participation_ratio(X: Any, *, seed: int = 0) -> Estimate:
    r"""Return the participation ratio :math:`(\sum \lambda)^2 / \sum \lambda^2` of the covariance.

    Parameters
    ----------
    X : array of shape (n, d)
    seed : int
        Seed of the halves of the delete-half jackknife.

    Returns
    -------
    Estimate
        Between 1 and min(n - 1, d). Of n isotropic points of rank r about r n / (n + r): compare
        at equal numbers of points.

    Raises
    ------
    ValueError
        No cloud.

    Notes
    -----
    O(n d min(n, d)) time, and four times that for the standard error.

    References
    ----------
    Gao, P., Trautmann, E., Yu, B., Santhanam, G., Ryu, S., Shenoy, K. and Ganguli, S. (2017). A
    theory of multineuronal dimensionality, dynamics and measurement. bioRxiv 214262.
    """
    points = as_points(X)

    def ratio(rows: Array) -> float:
        spectrum = variances(points[rows])
        return float(spectrum.sum() ** 2 / (spectrum**2).sum()) if len(spectrum) else math.nan

    return _estimate(ratio, len(points), "participation ratio", seed)


def rank_me(X: Any, *, seed: int = 0) -> Estimate:
    r"""Return RankMe, the exponential of the entropy of the singular values.

    :math:`p_k = \sigma_k / \sum_j \sigma_j + 10^{-7}` for the singular values of the points as they
    are, not centred.

    Parameters
    ----------
    X : array of shape (n, d)
        Fewer than d points bound it from above.
    seed : int
        Seed of the halves of the delete-half jackknife.

    Returns
    -------
    Estimate
        From 1 to min(n, d).

    Raises
    ------
    ValueError
        No cloud.

    Notes
    -----
    O(n d min(n, d)) time, and four times that for the standard error.

    References
    ----------
    Garrido, Q., Balestriero, R., Najman, L. and LeCun, Y. (2023). RankMe: assessing the downstream
    performance of pretrained self-supervised representations by their rank. ICML. As a measure of
    effective rank: Roy, O. and Vetterli, M. (2007). EUSIPCO.
    """
    points = as_points(X)

    def rank(rows: Array) -> float:
        values = np.linalg.svd(points[rows], compute_uv=False)
        if values[0] == 0:
            return math.nan
        shares = values / values.sum() + _RANK_ME_OFFSET
        return float(np.exp(-(shares * np.log(shares)).sum()))

    return _estimate(rank, len(points), "RankMe", seed)


def alpha_req(X: Any, *, first: int = 4, last: int = 100, seed: int = 0) -> Estimate:
    r"""Return the power :math:`\alpha` by which the eigenvalues of the covariance fall.

    The slope of :math:`-\log \lambda_j` against :math:`\log j`, by least squares with weights 1/j,
    so that every octave of ranks counts alike.

    Parameters
    ----------
    X : array of shape (n, d)
    first, last : int
        The window of ranks, counted from 1; it ends where eigenvalues are rounding. By default that
        of the authors' code. The slope depends on it.
    seed : int
        Seed of the halves of the delete-half jackknife.

    Returns
    -------
    Estimate
        NaN with the reason where fewer than three eigenvalues are in the window. Values near 1 went
        with good representations in the paper; smaller and larger ones with worse.

    Raises
    ------
    ValueError
        A window that is none, or no cloud.

    References
    ----------
    Agrawal, K. K., Mondal, A. K., Ghosh, A. and Richards, B. A. (2022). alpha-ReQ: assessing
    representation quality in self-supervised learning by measuring eigenspectrum decay. NeurIPS.
    The fit is that of Stringer, C., Pachitariu, M., Steinmetz, N., Carandini, M. and Harris, K. D.
    (2019). High-dimensional geometry of population responses in visual cortex. Nature 571.
    """
    if not 1 <= first < last:
        raise ValueError(f"first must be at least 1 and below last, got {first} and {last}")
    points = as_points(X)

    def slope(rows: Array) -> float:
        spectrum = variances(points[rows])
        ranks = np.arange(first, min(last, len(spectrum)) + 1)
        if len(ranks) < 3:
            return math.nan
        # polyfit takes the roots of the weights.
        x, y = np.log(ranks), np.log(spectrum[ranks - 1])
        return float(-np.polyfit(x, y, 1, w=ranks**-0.5)[0])

    reason = f"fewer than three eigenvalues above rounding from rank {first} on"
    return _estimate(slope, len(points), f"slope over ranks {first} to {last}", seed, reason)


def variances(points: Array) -> Array:
    """Return the eigenvalues of the covariance above rounding, over the largest, descending."""
    values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    above = values > max(points.shape) * np.finfo(np.float64).eps * values[0]
    spectrum: Array = (values[above] / values[0]) ** 2 if above.any() else values[:0]
    return spectrum


def _estimate(
    statistic: Callable[[Array], float], n: int, method: str, seed: int, reason: str = ""
) -> Estimate:
    value, method = statistic(np.arange(n)), f"{method}; delete-half jackknife"
    if math.isnan(value):
        return Estimate.undefined(reason, n=n, method=method)
    return Estimate(value, float(delete_half_stderr(statistic, n, seed=seed)), n=n, method=method)
