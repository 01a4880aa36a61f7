"""TwoNN: intrinsic dimension from the distances to the two nearest neighbours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.representation.finite_size import with_finite_size
from geomprobe.representation.neighbours import TIED, distinct_points, nearest_neighbours
from geomprobe.storage import Array

_LEAST = 20


def two_nn(X: Any, *, method: str = "mle", discard: float = 0.1, seed: int = 0) -> Estimate:
    r"""Estimate the intrinsic dimension of a cloud by the ratios of two distances.

    Where the density is constant over the two nearest neighbours of a point, at distances
    :math:`r_1 < r_2`, the ratio :math:`\mu = r_2 / r_1` has the distribution
    :math:`1 - \mu^{-D}` in dimension D, whatever the density.

    Parameters
    ----------
    X : array of shape (n, d)
        Points; duplicates count once. At least 20 distinct ones.
    method : {"mle", "regression"}
        Maximum likelihood without its bias, :math:`(n - 1) / \sum \log \mu`; or the slope through
        the origin of :math:`-\log(1 - F(\mu))` against :math:`\log \mu`, as first published.
    discard : float
        Share of the largest ratios that the regression leaves out.
    seed : int
        Seed of the halves of the cloud that the standard error is taken from.

    Returns
    -------
    Estimate
        The standard error has a part of sampling and one of finite size: see Notes. ``n`` is the
        number of distinct points, and the note tells of duplicates and ties. NaN where both
        neighbours of every point are equally far, as on a lattice.

    Raises
    ------
    ValueError
        Fewer than 20 distinct points, an unknown method, a share not in [0, 1), or no cloud.

    Notes
    -----
    The likelihood of n independent ratios has a standard error of :math:`D / \sqrt{n - 2}`. But
    most nearest neighbours are mutual, and their ratios go together; were it all of them, half of
    the ratios would be independent, and this is what the part of sampling assumes for maximum
    likelihood. For the regression it is the spread over halves of the cloud.

    The dimension comes out too small where neighbours are not near: at the rim of the set, and
    where it is curved, and the more so the higher it is; 2,000 points of a cube of dimension 20
    give about 15. This bias falls as :math:`n^{-1/D}`, so that the change from half of the points
    to all of them, over :math:`2^{1/D} - 1`, tells how much of it is left, and that is the part of
    finite size.

    Takes four times as long as finding the neighbours, which is O(n^2 d) at worst.

    References
    ----------
    Facco, E., d'Errico, M., Rodriguez, A. and Laio, A. (2017). Estimating the intrinsic dimension
    of datasets by a minimal neighborhood information. Scientific Reports 7. Denti, F., Doimo, D.,
    Laio, A. and Mira, A. (2022). The generalized ratios intrinsic dimension estimator. Scientific
    Reports 12.
    """
    if method not in ("mle", "regression"):
        raise ValueError(f"method must be 'mle' or 'regression', got {method!r}")
    if not 0 <= discard < 1:
        raise ValueError(f"discard must be in [0, 1), got {discard}")
    points, duplicates = distinct_points(X)
    n = len(points)
    if n < _LEAST:
        raise ValueError(f"TwoNN needs at least {_LEAST} distinct points, got {n}")
    tied = int((_log_ratios(points) < TIED).sum())

    def dimension(rows: Array) -> float:
        logs = _log_ratios(points[rows])
        return _likeliest(logs) if method == "mle" else _slope(logs, discard)

    name = "maximum likelihood" if method == "mle" else "regression"
    return with_finite_size(
        dimension,
        n,
        method=f"TwoNN by {name}",
        note=_note(duplicates, tied),
        seed=seed,
        independent_terms=(n - 2) / 2 if method == "mle" else None,
    )


def _log_ratios(points: Array) -> Array:
    _, distances = nearest_neighbours(points, 2)
    logs: Array = np.log(distances[:, 1] / distances[:, 0])
    return logs


def _likeliest(logs: Array) -> float:
    return float((len(logs) - 1) / logs.sum()) if logs.mean() > TIED else math.nan


def _slope(logs: Array, discard: float) -> float:
    logs = np.sort(logs)
    # The largest ratio has F = 1, at infinity, and is never among those kept.
    kept = min(max(2, int(len(logs) * (1 - discard))), len(logs) - 1)
    x, y = logs[:kept], -np.log1p(-np.arange(1, kept + 1) / len(logs))
    return float(x @ y / (x @ x)) if x.mean() > TIED else math.nan


def _note(duplicates: int, tied: int) -> str:
    told = []
    if duplicates:
        told.append(f"{duplicates} duplicates left out")
    if tied:
        told.append(
            f"both neighbours of {tied} points are equally far, as in rounded data, which makes "
            "the dimension too large"
        )
    return "; ".join(told)
