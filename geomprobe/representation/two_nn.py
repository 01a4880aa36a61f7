"""TwoNN: intrinsic dimension from the distances to the two nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.representation.finite_size import with_finite_size
from geomprobe.representation.neighbours import distinct_points, nearest_distances
from geomprobe.resampling import delete_half_stderr
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
        Maximum likelihood, :math:`(n - 1) / \sum \log \mu`; or the slope through the origin of
        :math:`-\log(1 - F(\mu))` against :math:`\log \mu`, as first published.
    discard : float
        Share of the largest ratios that the regression leaves out.
    seed : int
        Seed of the halves of the cloud that the standard error is taken from.

    Returns
    -------
    Estimate
        The standard error has a part of sampling and one of finite size: see Notes.

    Raises
    ------
    ValueError
        Fewer than 20 distinct points, an unknown method, a share not in [0, 1), or no cloud.

    Notes
    -----
    The dimension comes out too small where neighbours are not near: at the rim of the set, and
    where it is curved, and the more so the higher it is; 2,000 points of a cube of dimension 20
    give about 15. This bias falls as :math:`n^{-1/D}`, so that the change from half of the points
    to all of them, over :math:`2^{1/D} - 1`, tells how much of it is left, and that is the part of
    finite size.

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
    points = distinct_points(X)
    if len(points) < _LEAST:
        raise ValueError(f"TwoNN needs at least {_LEAST} distinct points, got {len(points)}")

    def dimension(logs: Array) -> float:
        return _likeliest(logs) if method == "mle" else _slope(logs, discard)

    def of_points(rows: Array) -> float:
        return dimension(_log_ratios(points[rows]))

    logs = _log_ratios(points)
    value = dimension(logs)
    if method == "mle":
        sampling = value / np.sqrt(len(logs) - 2)
    else:
        sampling = float(
            delete_half_stderr(lambda rows: dimension(logs[rows]), len(logs), seed=seed)
        )
    name = "maximum likelihood" if method == "mle" else "regression"
    return with_finite_size(
        value, float(sampling), of_points, len(points), f"TwoNN by {name}", seed
    )


def _log_ratios(points: Array) -> Array:
    nearest = nearest_distances(points, 2)
    logs: Array = np.log(nearest[:, 1] / nearest[:, 0])
    return logs


def _likeliest(logs: Array) -> float:
    return float((len(logs) - 1) / logs.sum())


def _slope(logs: Array, discard: float) -> float:
    logs = np.sort(logs)
    kept = max(2, int(len(logs) * (1 - discard)))
    # The largest ratio has F = 1, at infinity, and is never among them.
    kept = min(kept, len(logs) - 1)
    x, y = logs[:kept], -np.log(1 - np.arange(1, kept + 1) / len(logs))
    return float(x @ y / (x @ x))
