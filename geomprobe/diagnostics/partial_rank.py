"""Rank correlation that is left once the hyper-parameters are known."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from geomprobe.storage import Array

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
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(measure), rankdata(gap)], axis=1)
    return _correlation(*residuals(ranks, indicators(levels)).T)


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
    from scipy.stats import rankdata
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold

    n = len(gap)
    if n < 2 * _FOLDS:
        return float("nan")
    design = _with_interactions(levels)
    ranks = np.stack([rankdata(measure), rankdata(gap)], axis=1)
    missed = np.empty_like(ranks)
    for rest, fold in KFold(_FOLDS, shuffle=True, random_state=seed).split(design):
        for column in range(2):
            ridge = RidgeCV(alphas=_PENALTIES).fit(design[rest], ranks[rest, column])
            missed[fold, column] = ranks[fold, column] - ridge.predict(design[fold])
    return _correlation(*missed.T)


def indicators(levels: Array) -> Array:
    """Return a column of ones, and one indicator a value of each axis, shape (n, columns)."""
    columns = [np.ones(len(levels))]
    for axis in levels.T:
        columns += [(axis == value).astype(float) for value in np.unique(axis)[1:]]
    return np.stack(columns, axis=1)


def residuals(values: Array, design: Array) -> Array:
    """Return what a least-squares fit on the design leaves of each column."""
    basis, sizes, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, sizes > sizes.max() * 1e-10 * max(design.shape)]
    return np.asarray(values - basis @ (basis.T @ values))


def _with_interactions(levels: Array) -> Array:
    pairs = [
        np.unique(levels[:, pair], axis=0, return_inverse=True)[1].reshape(-1)
        for pair in combinations(range(levels.shape[1]), 2)
    ]
    return indicators(np.column_stack([levels, *pairs]))[:, 1:]


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = np.linalg.norm(a) * np.linalg.norm(b)
    # Ranks are of size n: residuals of rounding size carry no order.
    return float(a @ b / size) if size > 1e-9 * len(a) ** 3 else float("nan")
