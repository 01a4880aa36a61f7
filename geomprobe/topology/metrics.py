"""Distances: of points, and of the iterates of a training by what they do to each sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.storage import Array

# Squared distances below this share of the squared norms have lost their digits in the product of
# matrices, and are taken from differences.
_CANCELLED = 1e-5
#: Numbers of the points that are centred and multiplied at a time.
_SLICE = 1 << 22
#: Most points of which the mean is taken; it need not be that of all.
_SEEN_FROM = 64


def euclidean_distances(X: Any) -> Array:
    """Return the Euclidean distances of points, of shape (n, n): symmetric, with a zero diagonal.

    Parameters
    ----------
    X : array of shape (n, d)

    Notes
    -----
    One product of the points with themselves in float64, some coordinates at a time, as seen from
    the mean of some of them: O(n^2 d) time and O(n^2) memory beside the points. Pairs so close that
    the product cancels are taken from their differences, so that the relative error stays near
    1e-10 whatever the mean and the scale of the cloud. Distances whose squares overflow come out as
    infinity or NaN.
    """
    from scipy.linalg.blas import dsyrk

    from geomprobe.topology.differences import finish_squares

    points = np.ascontiguousarray(X, dtype=np.float64)
    # Of BLAS, whose columns are our rows, the upper triangle.
    products = np.zeros((len(points), len(points)), order="F")
    columns = max(1, _SLICE // len(points))
    # One array for all blocks, since new ones cost as much as what is written there.
    centred = np.empty((len(points), min(columns, points.shape[1])))
    with np.errstate(over="ignore", invalid="ignore"):
        for begin in range(0, points.shape[1], columns):
            block = points[:, begin : begin + columns]
            some = block[:: 1 + len(points) // _SEEN_FROM]
            here = np.subtract(block, some.mean(axis=0), out=centred[:, : block.shape[1]])
            products = dsyrk(1.0, here.T, 1.0, products, trans=1, overwrite_c=1)
    distances: Array = products.T
    finish_squares(distances, points, _CANCELLED)
    return distances


def loss_pseudometric(losses: Any) -> Array:
    """Return the mean absolute difference of the losses of two iterates on each sample.

    Parameters
    ----------
    losses : array of shape (T, n)
        Loss of each of n samples at each of T iterates.

    Returns
    -------
    array of shape (T, T)
        A pseudo-metric: iterates that do the same to every sample have distance 0.

    References
    ----------
    Dupuis, B., Deligiannidis, G. and Şimşekli, U. (2023). Generalization bounds using
    data-dependent fractal dimensions. ICML.
    """
    matrix: Array = _by_sample(losses, "losses", "cityblock") / np.shape(losses)[1]
    return matrix


def zero_one_pseudometric(predictions: Any) -> Array:
    """Return the share of the samples that two iterates classify differently.

    Parameters
    ----------
    predictions : int array of shape (T, n)
        Class of each of n samples at each of T iterates; or whether it was predicted rightly, for
        the difference of the 0-1 losses.

    Returns
    -------
    array of shape (T, T)
    """
    return _by_sample(predictions, "predictions", "hamming")


def _by_sample(values: Any, name: str, metric: str) -> Array:
    from scipy.spatial.distance import pdist, squareform

    given = np.asarray(values)
    if given.ndim != 2 or len(given) < 2 or not given.shape[1] or given.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} must be numbers of shape (T, n), a row for each of two iterates or more, got "
            f"shape {given.shape} and dtype {given.dtype}"
        )
    if not np.isfinite(given).all():
        raise ValueError(f"{int((~np.isfinite(given)).sum())} of the {name} are NaN or infinity")
    matrix: Array = squareform(pdist(given.astype(np.float64), metric))
    return matrix
