"""The standard error of a dimension that is too small where points are too few."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.storage import Array

_HALVES = 12


def with_finite_size(
    dimension_of: Callable[[Array], float],
    n: int,
    *,
    method: str,
    note: str,
    seed: int,
    independent_terms: float | None = None,
) -> Estimate:
    """Return a dimension with a standard error of sampling and of finite size.

    Parameters
    ----------
    dimension_of : callable
        Takes row indices, returns the dimension of those points; NaN where all their neighbours
        are equally far.
    n : int
        How many points there are.
    method, note : str
        Of the estimate.
    seed : int
        Seed of the halves.
    independent_terms : float, optional
        The error of sampling is the dimension over the root of this number. By default it is the
        spread over halves of the points (delete-half jackknife).

    Notes
    -----
    A bias that is proportional to the distance of neighbours, so to n^(-1/D), is the change from
    half of the points to all over 2^(1/D) - 1. The change is taken to be no smaller than half of
    the error of sampling, which is about how much it varies from cloud to cloud of a cube.
    """
    value = dimension_of(np.arange(n))
    if math.isnan(value):
        reason = "the neighbours of a point are equally far: the points lie on a lattice"
        return Estimate.undefined(reason, n=n, method=method)
    generator = np.random.default_rng(seed)
    drawn = [dimension_of(generator.choice(n, n // 2, replace=False)) for _ in range(_HALVES)]
    halves = np.array(drawn)[np.isfinite(drawn)]
    if len(halves) < 2:
        return Estimate(value, n=n, method=method, note=note)
    if independent_terms is None:
        sampling = float(halves.std(ddof=1))
    else:
        sampling = value / math.sqrt(independent_terms)
    change = max(abs(value - float(halves.mean())), sampling / 2)
    finite_size = change / (2 ** (1 / max(value, 0.5)) - 1)
    parts = f"standard error of sampling {sampling:.2g}, of finite size {finite_size:.2g}"
    return Estimate(
        value, math.hypot(sampling, finite_size), n=n, method=f"{method}; {parts}", note=note
    )
