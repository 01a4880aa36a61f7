"""Standard errors by resampling, for numbers that have no formula for theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from geomprobe.storage import Array


def delete_half_stderr(
    statistic: Callable[[Array], Any],
    n: int,
    *,
    replicates: int = 12,
    seed: int = 0,
    grows: Any = False,
) -> Array:
    """Estimate the standard error of a statistic of n points by the delete-half jackknife.

    The statistic is computed on random halves of the points. With half of them deleted, the
    factor (n - d)/d of the delete-d jackknife is one, so the spread of the halves about their mean
    *is* the standard error of the statistic on all n points. Unlike the delete-one jackknife it is
    consistent for statistics that are not smooth, such as a longest bar.

    Parameters
    ----------
    statistic : callable
        Takes row indices, returns a number or an array of numbers.
    n : int
        How many points there are; fewer than 4 give NaN.
    replicates : int
        How many halves; the standard error itself then has a relative error of about
        1/sqrt(2 (replicates - 1)).
    seed : int
        Seed of the halves.
    grows : bool, or array of bool of the statistic's shape
        Whether the statistic grows as a power of n, as a sum does. The halves are then brought to
        the size of the whole by the ratio of its value to their mean.

    Returns
    -------
    array of the statistic's shape
        Standard errors; NaN where fewer than two halves gave a finite number.

    References
    ----------
    Shao, J. and Wu, C. F. J. (1989). A general theory for jackknife variance estimation. Annals of
    Statistics 17(3).
    """
    if n < 4:
        return np.full(np.shape(statistic(np.arange(n))), np.nan)
    generator = np.random.default_rng(seed)
    half = n // 2
    values = np.array(
        [
            np.asarray(statistic(np.sort(generator.choice(n, half, replace=False))), dtype=float)
            for _ in range(replicates)
        ]
    )
    values[~np.isfinite(values)] = np.nan
    finite = np.isfinite(values).sum(axis=0)
    mean = np.nansum(values, axis=0) / np.maximum(finite, 1)
    squares = np.nansum((values - mean) ** 2, axis=0)
    spread = np.sqrt(half / (n - half) * squares / np.maximum(finite - 1, 1))
    if np.any(grows):
        whole = np.asarray(statistic(np.arange(n)), dtype=float)
        ratio = np.divide(whole, mean, out=np.ones_like(mean), where=mean != 0)
        spread = np.where(grows, spread * np.abs(ratio), spread)
    return np.where(finite >= 2, spread, np.nan)
