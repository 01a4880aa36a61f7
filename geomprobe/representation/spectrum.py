"""Dimensions of the linear kind: how many directions the covariance of a cloud fills."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.points import as_points
from geomprobe.representation.neighbours import distinct_points
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array

_RANK_ME_OFFSET = 1e-7  # Of Garrido et al.
_JACKKNIFE = "delete-half jackknife"


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
        Between 1 and min(n - 1, d). r for n isotropic points of rank r much smaller than n.

    References
    ----------
    Gao, P., Trautmann, E., Yu, B., Santhanam, G., Ryu, S., Shenoy, K. and Ganguli, S. (2017). A
    theory of multineuronal dimensionality, dynamics and measurement. bioRxiv 214262.
    """
    points = as_points(X)

    def ratio(rows: Array) -> float:
        spectrum = _covariances(points[rows])
        return float(spectrum.sum() ** 2 / (spectrum**2).sum())

    return _estimate(ratio, len(points), f"participation ratio; {_JACKKNIFE}", seed)


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

    References
    ----------
    Garrido, Q., Balestriero, R., Najman, L. and LeCun, Y. (2023). RankMe: assessing the downstream
    performance of pretrained self-supervised representations by their rank. ICML. As a measure of
    effective rank: Roy, O. and Vetterli, M. (2007). EUSIPCO.
    """
    points = as_points(X)

    def rank(rows: Array) -> float:
        values = _singular_values(points[rows])
        shares = values / values.sum() + _RANK_ME_OFFSET
        return float(np.exp(-(shares * np.log(shares)).sum()))

    return _estimate(rank, len(points), f"RankMe; {_JACKKNIFE}", seed)


def alpha_req(X: Any, *, first: int = 3, last: int = 50, seed: int = 0) -> Estimate:
    r"""Return the power :math:`\alpha` by which the eigenvalues of the covariance fall.

    The slope of :math:`-\log \lambda_j` against :math:`\log j`, by least squares over a window.

    Parameters
    ----------
    X : array of shape (n, d)
    first, last : int
        The window of ranks, counted from 1; it ends where eigenvalues are rounding.
    seed : int
        Seed of the halves of the delete-half jackknife.

    Returns
    -------
    Estimate
        NaN with the reason where fewer than three eigenvalues are in the window. Values near 1 went
        with good representations in the paper; smaller and larger ones with worse.

    References
    ----------
    Agrawal, K. K., Mondal, A. K., Ghosh, A. and Richards, B. A. (2022). alpha-ReQ: assessing
    representation quality in self-supervised learning by measuring eigenspectrum decay. NeurIPS.
    """
    if not 1 <= first < last:
        raise ValueError(f"first must be at least 1 and below last, got {first} and {last}")
    points = as_points(X)

    def slope(rows: Array) -> float:
        spectrum = _covariances(points[rows])
        usable = int((spectrum > len(spectrum) * np.finfo(np.float64).eps * spectrum[0]).sum())
        ranks = np.arange(first, min(last, usable) + 1)
        if len(ranks) < 3:
            return math.nan
        return float(-np.polyfit(np.log(ranks), np.log(spectrum[ranks - 1]), 1)[0])

    method = f"slope over ranks {first} to {last}; {_JACKKNIFE}"
    if math.isnan(slope(np.arange(len(points)))):
        reason = f"fewer than three eigenvalues above rounding from rank {first} on"
        return Estimate.undefined(reason, n=len(points), method=method)
    return _estimate(slope, len(points), method, seed)


def local_pca(X: Any, k: int = 20, *, share: float = 0.95) -> Estimate:
    """Return the mean number of principal components that neighbourhoods need.

    Parameters
    ----------
    X : array of shape (n, d)
        Points; duplicates count once. More than k distinct ones.
    k : int
        Neighbours of each point; they bound the result.
    share : float
        Share of the variance that the components must explain.

    Returns
    -------
    Estimate
        With the standard error of the mean over points, taken for independent.

    References
    ----------
    Fukunaga, K. and Olsen, D. R. (1971). An algorithm for finding intrinsic dimensionality of data.
    IEEE Transactions on Computers C-20.
    """
    from sklearn.neighbors import NearestNeighbors

    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    points = distinct_points(X)
    if not 2 <= k < len(points):
        raise ValueError(f"k must be from 2 to {len(points) - 1}, got {k}")
    search = NearestNeighbors(n_neighbors=k).fit(points)
    counts = []
    for rows in search.kneighbors(return_distance=False):
        spectrum = _covariances(points[rows])
        shares = np.cumsum(spectrum) / spectrum.sum()
        counts.append(1 + int((shares < share).sum()))
    error = float(np.std(counts, ddof=1) / math.sqrt(len(counts)))
    method = f"components for {share:.0%} of the variance of {k} neighbours"
    return Estimate(float(np.mean(counts)), error, n=len(points), method=method)


def _covariances(points: Array) -> Array:
    """Return the eigenvalues of the covariance, up to a factor, in descending order."""
    spectrum: Array = _singular_values(points - points.mean(axis=0)) ** 2
    return spectrum


def _singular_values(points: Array) -> Array:
    values: Array = np.linalg.svd(points, compute_uv=False)
    return values


def _estimate(statistic: Any, n: int, method: str, seed: int) -> Estimate:
    value = statistic(np.arange(n))
    return Estimate(value, float(delete_half_stderr(statistic, n, seed=seed)), n=n, method=method)
