"""The standard error of a dimension that is too small where points are too few."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.storage import Array

_HALVES = 6


def with_finite_size(
    value: float,
    sampling: float,
    dimension_of: Callable[[Array], float],
    n: int,
    method: str,
    seed: int,
) -> Estimate:
    """Return a dimension with a standard error of sampling and of finite size.

    Parameters
    ----------
    value, sampling : float
        The dimension of all points, and its standard error by sampling.
    dimension_of : callable
        Gives the dimension of some of the points.
    n : int
        How many points there are.
    method : str
    seed : int
        Seed of the halves.

    Notes
    -----
    A bias that is proportional to the distance of neighbours, so to n^(-1/D), is the change from
    half of the points to all over 2^(1/D) - 1. The change itself is known to about half of the
    error of sampling, and is taken to be no smaller.
    """
    generator = np.random.default_rng(seed)
    halves = [dimension_of(generator.choice(n, n // 2, replace=False)) for _ in range(_HALVES)]
    change = max(abs(value - float(np.mean(halves))), sampling / 2)
    finite_size = change / (2 ** (1 / max(value, 0.5)) - 1)
    return Estimate(
        value,
        float(np.hypot(sampling, finite_size)),
        n=n,
        method=f"{method}; standard error of sampling {sampling:.2g}, of finite size "
        f"{finite_size:.2g}",
    )
