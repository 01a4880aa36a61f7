"""Whether a diagnostic gives the same number again from another seed."""

from __future__ import annotations

import numpy as np

from geomprobe.storage import Array


def seed_reliability(cell: Array, values: Array) -> float:
    """Return the intraclass correlation of models of equal hyper-parameters, ICC(1).

    The share of a diagnostic's variance that lies between cells rather than between the seeds of
    one: 1 where seeds agree, 0 or below where they differ as much as anything else.

    Parameters
    ----------
    cell : ndarray of int, shape (n,)
        The cell of each model.
    values : ndarray, shape (n,)
        A diagnostic, or a gap. NaN is left out.

    Returns
    -------
    float
        NaN where no cell has two models, or all values are equal.

    References
    ----------
    Shrout, P. E. and Fleiss, J. L. (1979). Intraclass correlations: uses in assessing rater
    reliability. Psychological Bulletin 86(2), case 1; unequal sizes as in Donner (1986).
    """
    known = np.isfinite(values)
    index, values = np.unique(cell[known], return_inverse=True)[1].reshape(-1), values[known]
    sizes = np.bincount(index)
    n, k = len(values), len(sizes)
    if k < 2 or n == k:
        return float("nan")
    means = np.bincount(index, values) / sizes
    between = sizes @ (means - values.mean()) ** 2 / (k - 1)
    within = ((values - means[index]) ** 2).sum() / (n - k)
    size = (n - (sizes**2).sum() / n) / (k - 1)
    total = between + (size - 1) * within
    return float((between - within) / total) if total > 0 else float("nan")
