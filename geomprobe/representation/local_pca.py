"""Local PCA: the linear dimension of neighbourhoods."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.representation.neighbours import distinct_points, nearest_neighbours
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array

_BLOCK_ENTRIES = 2**22


def local_pca(
    X: Any,
    k: int = 20,
    *,
    criterion: str = "fukunaga-olsen",
    share: float | None = None,
    seed: int = 0,
) -> Estimate:
    r"""Return the mean linear dimension of the neighbourhoods of a cloud.

    Parameters
    ----------
    X : array of shape (n, d)
        Points; duplicates count once. More than 2 k distinct ones.
    k : int
        Neighbours of each point, at least 3; they bound the result by k - 1. Too few are noise, too
        many see the curvature.
    criterion : {"fukunaga-olsen", "variance", "participation"}
        What counts as the dimension of a neighbourhood with principal variances
        :math:`\lambda_1 \ge \lambda_2 \ge \ldots`: how many exceed the ``share`` of the largest;
        how many leave no more than the ``share`` of the sum unexplained; or the participation
        ratio :math:`(\sum \lambda)^2 / \sum \lambda^2`.
    share : float, optional
        By default 0.05. The participation ratio has none.
    seed : int
        Seed of the halves of the delete-half jackknife.

    Returns
    -------
    Estimate
        The standard error is of sampling alone. Halves of the cloud have wider neighbourhoods;
        their spread is taken, and not their shift.

    Raises
    ------
    ValueError
        Too few distinct points, k below 3, an unknown criterion, a share not in (0, 1) or where
        there is none, or no cloud.

    Notes
    -----
    O(n k d min(k, d)) time after the neighbours, and six times that for the standard error.

    References
    ----------
    Fukunaga, K. and Olsen, D. R. (1971). An algorithm for finding intrinsic dimensionality of data.
    IEEE Transactions on Computers C-20.
    """
    if criterion not in ("fukunaga-olsen", "variance", "participation"):
        raise ValueError(
            f"criterion must be 'fukunaga-olsen', 'variance' or 'participation', got {criterion!r}"
        )
    if share is not None and (criterion == "participation" or not 0 < share < 1):
        raise ValueError(
            "share must be between 0 and 1, and 'participation' takes none; "
            f"got {share} for {criterion!r}"
        )
    points, duplicates = distinct_points(X)
    n = len(points)
    if k < 3 or n <= 2 * k:
        raise ValueError(
            "k must be at least 3, and local PCA needs more than 2 k distinct points; "
            f"got k={k} and {n} distinct points"
        )
    threshold = 0.05 if share is None else share

    def dimension(rows: Array) -> float:
        spectra = _spectra(points[rows], k)
        if criterion == "fukunaga-olsen":
            found = (spectra > threshold * spectra[:, :1]).sum(axis=1)
        elif criterion == "variance":
            explained = np.cumsum(spectra, axis=1) / spectra.sum(axis=1, keepdims=True)
            found = 1 + (explained < 1 - threshold).sum(axis=1)
        else:
            found = spectra.sum(axis=1) ** 2 / (spectra**2).sum(axis=1)
        return float(found.mean())

    said = "" if criterion == "participation" else f" with a share of {threshold:g}"
    return Estimate(
        dimension(np.arange(n)),
        float(delete_half_stderr(dimension, n, seed=seed)),
        n=n,
        method=f"local PCA of {k} neighbours by {criterion}{said}; delete-half jackknife",
        note=f"{duplicates} duplicates left out" if duplicates else "",
    )


def _spectra(points: Array, k: int) -> Array:
    """Return the principal variances of each neighbourhood, over the largest."""
    indices, _ = nearest_neighbours(points, k)
    n_blocks = len(points) * k * points.shape[1] // _BLOCK_ENTRIES + 1
    found = []
    for some in np.array_split(indices, n_blocks):
        around = points[some]
        values = np.linalg.svd(around - around.mean(axis=1, keepdims=True), compute_uv=False)
        found.append((values / values[:, :1]) ** 2)
    return np.concatenate(found)
