"""Rank correlation that is left once the hyper-parameters are known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from geomprobe.storage import Array

if TYPE_CHECKING:
    from sklearn.linear_model import RidgeCV

_FOLDS = 5
_PENALTIES = np.logspace(-3, 3, 13)


def partial_spearman(measure: Array, gap: Array, levels: Array) -> float:
    """Return Spearman's correlation of diagnostic and gap given hyper-parameters.

    Both are ranked, the ranks are regressed on one indicator a value of each hyper-parameter, and
    the residuals are correlated.

    Parameters
    ----------
    measure, gap : ndarray, shape (n,)
    levels : ndarray of int, shape (n, n_controls)
        The hyper-parameters to hold fixed.

    Returns
    -------
    float
        In [-1, 1]; NaN where the hyper-parameters explain either side to rounding.

    Notes
    -----
    It removes main effects only. With k fitted coefficients, chance alone reaches about
    1.96/sqrt(n - k). O(n k^2).
    """
    return _correlation(*_residuals(_ranks(measure, gap), _indicators(levels)).T)


def permutation_p(measure: Array, gap: Array, levels: Array, *, draws: int, seed: int) -> float:
    """Return the two-sided p of :func:`partial_spearman`: residual ranks are permuted.

    References
    ----------
    Freedman, D. and Lane, D. (1983). A nonstochastic interpretation of reported significance
    levels. Journal of Business and Economic Statistics 1(4).
    """
    design = _indicators(levels)
    a, b = _residuals(_ranks(measure, gap), design).T
    observed = _correlation(a, b)
    if math.isnan(observed):
        return math.nan
    generator = np.random.default_rng(seed)
    shuffled = np.stack([generator.permutation(a) for _ in range(draws)], axis=1)
    again = _residuals(shuffled, design)
    size = np.linalg.norm(again, axis=0) * np.linalg.norm(b)
    beyond = np.abs(b @ again) / size >= abs(observed) - 1e-12
    return float((1 + beyond.sum()) / (1 + draws))


def cross_fitted_spearman(measure: Array, gap: Array, levels: Array, *, seed: int = 0) -> float:
    """Return Spearman's correlation given hyper-parameters and their interactions in pairs.

    The ranks of each fifth of the cells are predicted by ridge regressions on the others (penalty
    by generalised cross-validation), so that many interactions do not explain a rank by chance;
    what the predictions miss is correlated.

    Parameters
    ----------
    measure, gap : ndarray, shape (n,)
    levels : ndarray of int, shape (n, n_controls)
    seed : int
        Seed of the folds.

    Returns
    -------
    float
        In [-1, 1]; NaN for fewer than 10 cells.
    """
    n = len(gap)
    if n < 2 * _FOLDS:
        return float("nan")
    design = _with_interactions(levels)
    ranks = _ranks(measure, gap)
    missed = np.empty_like(ranks)
    for column in range(2):
        for fold, fitted in cross_fits(design, ranks[:, column], folds=_FOLDS, seed=seed):
            missed[fold, column] = ranks[fold, column] - fitted.predict(design[fold])
    return _correlation(*missed.T)


def explained_by_axis(measure: Array, levels: Array) -> Array:
    """Return the share of the variance of a diagnostic's ranks that each hyper-parameter explains.

    Eta squared, of one hyper-parameter at a time: where they are crossed completely, the shares sum
    to 1 at most. NaN for a diagnostic that is constant.

    Parameters
    ----------
    measure : ndarray, shape (n,)
    levels : ndarray of int, shape (n, n_axes)

    Returns
    -------
    ndarray, shape (n_axes,)
    """
    ranks = _ranks(measure, measure)[:, :1]
    total = np.square(ranks - ranks.mean()).sum()
    left = [np.square(_residuals(ranks, _indicators(axis[:, None]))).sum() for axis in levels.T]
    return 1 - np.array(left) / total if total else np.full(levels.shape[1], np.nan)


def cross_fits(
    design: Array, target: Array, *, folds: int, seed: int
) -> Iterator[tuple[Array, RidgeCV]]:
    """Yield each fold of rows, and the ridge regression that was fitted on all others."""
    from sklearn.model_selection import KFold

    for rest, fold in KFold(folds, shuffle=True, random_state=seed).split(design):
        yield fold, ridge(design[rest], target[rest])


def ridge(design: Array, target: Array) -> RidgeCV:
    """Fit a ridge regression whose penalty is chosen by generalised cross-validation."""
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=_PENALTIES).fit(design, target)


def _ranks(measure: Array, gap: Array) -> Array:
    from scipy.stats import rankdata

    return np.stack([rankdata(measure), rankdata(gap)], axis=1)


def _indicators(levels: Array) -> Array:
    """Return a column of ones, and one indicator a value of each axis, shape (n, columns)."""
    columns = [np.ones(len(levels))]
    for axis in levels.T:
        columns += [(axis == value).astype(float) for value in np.unique(axis)[1:]]
    return np.stack(columns, axis=1)


def _residuals(values: Array, design: Array) -> Array:
    """Return what a least-squares fit on the design leaves of each column."""
    basis, sizes, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, sizes > sizes.max() * 1e-10 * max(design.shape)]
    return np.asarray(values - basis @ (basis.T @ values))


def _with_interactions(levels: Array) -> Array:
    pairs = [
        np.unique(levels[:, pair], axis=0, return_inverse=True)[1].reshape(-1)
        for pair in combinations(range(levels.shape[1]), 2)
    ]
    return _indicators(np.column_stack([levels, *pairs]))[:, 1:]


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = np.linalg.norm(a) * np.linalg.norm(b)
    # Ranks are of size n: residuals of rounding size carry no order.
    return float(a @ b / size) if size > 1e-9 * len(a) ** 3 else float("nan")
