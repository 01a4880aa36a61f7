"""Representation topology divergence: where two clouds of the same samples differ in topology."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.points import as_points
from geomprobe.progress import progress_bar
from geomprobe.storage import Array
from geomprobe.topology.diagrams import Diagrams
from geomprobe.topology.graphs import as_graph, distance_matrix
from geomprobe.topology.rips import rips_persistence
from geomprobe.topology.summaries import total_persistence

_QUANTILE = 0.9


def cross_barcode(X: Any, Y: Any, *, metric: str = "euclidean", engine: str = "auto") -> Diagrams:
    """Return the R-cross-barcode of two clouds of the same samples, in H0 and H1.

    With w and v the distances of X and of Y, it follows topology that there is by min(w, v) but not
    by w. A bar of H1 is born where clusters of X are joined in Y at a scale at which they are
    apart in X, and dies where they are joined in X too; or it is a loop that X has not.

    Parameters
    ----------
    X, Y : arrays of shape (n, d1) and (n, d2), or (n, n) with ``metric="precomputed"``
        Row i of both belongs to sample i.
    metric : str
        A metric of ``scipy.spatial.distance.pdist``, or ``"precomputed"``.
    engine : str
        See :func:`~geomprobe.topology.rips_persistence`.

    Returns
    -------
    Diagrams
        Scales in units of the 0.9-quantile of each cloud's distances.

    Raises
    ------
    ValueError
        Not as many samples in both, nine of ten distances 0, or what ``rips_persistence`` refuses.

    Notes
    -----
    Rips persistence of 2n points with the distances [[0, w], [w, min(w, v)]]: n of them at one
    place to which sample i of the others is joined, through its own copy, as in X. H1 is that of
    the pair of Rips complexes by min(w, v) and by w. It is not symmetric.

    References
    ----------
    Barannikov, S., Trofimov, I., Balabin, N. and Burnaev, E. (2022). Representation topology
    divergence: a method for comparing neural network representations. ICML.
    """
    w, v = _normalized(X, metric, "X"), _normalized(Y, metric, "Y")
    _require_as_many(w, v)
    return _cross_barcode(w, v, engine)


def rtd(
    X: Any,
    Y: Any,
    *,
    metric: str = "euclidean",
    max_points: int = 500,
    trials: int = 10,
    engine: str = "auto",
    seed: int = 0,
) -> Estimate:
    """Return the representation topology divergence of two clouds of the same samples.

    The sum of the lengths of the H1 bars of the R-cross-barcode, averaged over both directions: 0
    where all distances agree up to one factor.

    Parameters
    ----------
    X, Y : arrays of shape (n, d1) and (n, d2), or (n, n) with ``metric="precomputed"``
        Row i of both belongs to sample i: two layers, two checkpoints, or two seeds.
    metric : str
        A metric of ``scipy.spatial.distance.pdist``, or ``"precomputed"``.
    max_points : int
        Of more samples, the mean over random subsets of this size; it grows with the size.
    trials : int
        Number of subsets, at least 2.
    engine : str
        See :func:`~geomprobe.topology.rips_persistence`.
    seed : int
        Seed of the subsets.

    Returns
    -------
    Estimate
        Exact where no subsets are drawn. Otherwise the standard error is that of the mean over
        subsets: it tells how far the choice of subsets matters, and not how far another set of
        samples would. After Ctrl-C, the mean over the subsets that are done, if there are two.

    Raises
    ------
    ValueError
        As for :func:`cross_barcode`; ``max_points`` below 3 or ``trials`` below 2.

    Notes
    -----
    Each trial takes two runs of H1 on twice as many points.

    References
    ----------
    As for :func:`cross_barcode`. Each subset is normalized by itself, as in the published code.
    """
    for name, value, least in (("max_points", max_points, 3), ("trials", trials, 2)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    x, y = (as_graph(one) if metric == "precomputed" else as_points(one) for one in (X, Y))
    _require_as_many(x, y)
    n = x.shape[0]
    method = "sum of H1 of the R-cross-barcode, mean of both directions"
    if n <= max_points:
        return Estimate(_divergence(x, y, metric, engine), exact=True, n=n, method=method)

    generator = np.random.default_rng(seed)
    values: list[float] = []
    note = ""
    try:
        for _ in progress_bar(range(trials), "rtd", unit="subset"):
            rows = generator.choice(n, max_points, replace=False)
            chosen = np.ix_(rows, rows) if metric == "precomputed" else rows
            values.append(_divergence(x[chosen], y[chosen], metric, engine))
    except KeyboardInterrupt:
        if len(values) < 2:
            raise
        note = f"interrupted after {len(values)} of {trials} subsets"
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    method += f"; over {len(values)} subsets of {max_points}"
    return Estimate(float(np.mean(values)), error, n=max_points, method=method, note=note)


def _divergence(X: Array, Y: Array, metric: str, engine: str) -> float:
    w, v = _normalized(X, metric, "X"), _normalized(Y, metric, "Y")
    both = (_cross_barcode(one, other, engine)[1] for one, other in ((w, v), (v, w)))
    return sum(total_persistence(bars) for bars in both) / 2


def _cross_barcode(w: Array, v: Array, engine: str) -> Diagrams:
    doubled = np.block([[np.zeros_like(w), w], [w, np.minimum(w, v)]])
    return rips_persistence(doubled, 1, metric="precomputed", engine=engine)


def _normalized(X: Any, metric: str, name: str) -> Array:
    distances = as_graph(X) if metric == "precomputed" else distance_matrix(as_points(X), metric)
    if not isinstance(distances, np.ndarray) or not np.isfinite(distances).all():
        raise ValueError(f"{name} must have a finite distance for every pair of samples")
    unit = float(np.quantile(distances, _QUANTILE))
    if not unit:
        raise ValueError(f"{_QUANTILE:.0%} of the distances of {name} are 0: there is no unit")
    normalized: Array = distances / unit
    return normalized


def _require_as_many(X: Any, Y: Any) -> None:
    if X.shape[0] != Y.shape[0]:
        raise ValueError(
            "X and Y must hold the same samples in the same order, got "
            f"{X.shape[0]} and {Y.shape[0]} of them"
        )
