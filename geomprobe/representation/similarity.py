"""How alike two representations of the same samples are: linear CKA and Procrustes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from geomprobe.findings import Estimate
from geomprobe.points import as_points
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array


def cka(
    X: Any, Y: Any, *, debiased: bool = True, batch_size: int | None = None, seed: int = 0
) -> Estimate:
    """Return the linear centred kernel alignment of two representations.

    Parameters
    ----------
    X, Y : arrays of shape (n, d) and (n, e)
        The same samples in the same order; at least four.
    debiased : bool
        Whether to estimate the alignment of the population. The plain alignment of the samples
        grows towards 1 with d and e over n, also of representations that have nothing in common.
    batch_size : int, optional
        Average over batches of so many samples, in their order, for memory of batch_size^2. Only
        the debiased alignment is then of the same population.
    seed : int
        Seed of the halves of the delete-half jackknife.

    Returns
    -------
    Estimate
        1 where one is the other but for rotation, scale and shift. The plain one is at least 0; the
        debiased one is about 0 of independent representations, and may be negative.

    Raises
    ------
    ValueError
        Different numbers of samples, fewer than four, a batch of fewer than four, batches without
        ``debiased``, or no cloud.

    References
    ----------
    Kornblith, S., Norouzi, M., Lee, H. and Hinton, G. (2019). Similarity of neural network
    representations revisited. ICML. Song, L., Smola, A., Gretton, A., Bedo, J. and Borgwardt, K.
    (2012). Feature selection via dependence maximization. JMLR 13. Nguyen, T., Raghu, M. and
    Kornblith, S. (2021). Do wide and deep networks learn the same things? ICLR.
    """
    x, y = _paired(X, Y)
    if batch_size is not None and (batch_size < 4 or not debiased):
        raise ValueError(
            "batch_size must be at least 4, and takes debiased=True, got "
            f"{batch_size} and debiased={debiased}"
        )
    n = len(x)
    size = min(batch_size or n, n)

    def alignment(rows: Array) -> float:
        products = np.zeros(3)
        for start in range(0, len(rows) - len(rows) % min(size, len(rows)), size):
            part = rows[start : start + size]
            products += _products(x[part], y[part], debiased)
        return _alignment(products)

    name = "debiased" if debiased else "plain"
    method = f"{name} linear CKA" + (f" in batches of {size}" if batch_size else "")
    error = float(delete_half_stderr(alignment, n, seed=seed)) if n >= 8 else math.nan
    return Estimate(alignment(np.arange(n)), error, n=n, method=f"{method}; delete-half jackknife")


def cka_matrix(Xs: Sequence[Any], Ys: Sequence[Any], *, debiased: bool = True) -> Array:
    """Return the linear CKA of each of some representations with each of others.

    Parameters
    ----------
    Xs, Ys : sequences of arrays of shape (n, d_i)
        The same samples in the same order in all of them.
    debiased : bool
        As for :func:`cka`.

    Returns
    -------
    array of shape (len(Xs), len(Ys))
    """
    grams = [[_gram(_paired(one, Xs[0])[0], debiased) for one in some] for some in (Xs, Ys)]
    selfs = [[_hsic(one, one, debiased) for one in some] for some in grams]
    return np.array(
        [
            [
                _alignment(np.array([_hsic(a, b, debiased), own, other]))
                for b, other in zip(grams[1], selfs[1], strict=True)
            ]
            for a, own in zip(grams[0], selfs[0], strict=True)
        ]
    )


def procrustes(X: Any, Y: Any, *, seed: int = 0) -> Estimate:
    r"""Return the Procrustes distance of two representations: what no rotation can align.

    :math:`\sqrt{2 - 2 \|X^T Y\|_*}`, where both are centred and of Frobenius norm 1.

    Parameters
    ----------
    X, Y : arrays of shape (n, d) and (n, e)
        The same samples in the same order.
    seed : int
        Seed of the halves of the delete-half jackknife.

    Returns
    -------
    Estimate
        From 0, where one is the other but for rotation, scale and shift, to the square root of 2.
        A metric. The fewer points there are beside the dimensions, the better anything aligns.

    References
    ----------
    Williams, A. H., Kunz, E., Kornblith, S. and Linderman, S. W. (2021). Generalized shape metrics
    on neural representations. NeurIPS. Ding, F., Denain, J.-S. and Steinhardt, J. (2021). Grounding
    representation similarity through statistical testing. NeurIPS.
    """
    x, y = (_narrowed(points) for points in _paired(X, Y))

    def distance(rows: Array) -> float:
        one, other = (_centred(points[rows]) for points in (x, y))
        scale = np.linalg.norm(one) * np.linalg.norm(other)
        if scale == 0:  # Constant on these rows.
            return math.nan
        aligned = np.linalg.svd(one.T @ other, compute_uv=False).sum() / scale
        return float(np.sqrt(max(0.0, 2 - 2 * aligned)))

    n = len(x)
    error = float(delete_half_stderr(distance, n, seed=seed))
    return Estimate(distance(np.arange(n)), error, n=n, method="delete-half jackknife")


def _paired(X: Any, Y: Any) -> tuple[Array, Array]:
    x, y = as_points(X), as_points(Y)
    if len(x) != len(y) or len(x) < 4:
        raise ValueError(
            "X and Y must hold the same samples in the same order, four or more, got "
            f"{len(x)} and {len(y)}"
        )
    return x, y


def _narrowed(points: Array) -> Array:
    """Return points of no more dimensions than there are points, with the same inner products."""
    n, d = points.shape
    narrow: Array = np.linalg.qr(points.T)[1].T if d > n else points
    return narrow


def _centred(points: Array) -> Array:
    centred: Array = points - points.mean(axis=0)
    return centred


def _gram(points: Array, debiased: bool) -> Array:
    centred = _centred(points)
    gram: Array = centred @ centred.T
    if debiased:
        np.fill_diagonal(gram, 0)
    return gram


def _products(x: Array, y: Array, debiased: bool) -> Array:
    """Return HSIC of the two with each other, and of each with itself."""
    a, b = _gram(x, debiased), _gram(y, debiased)
    return np.array([_hsic(one, other, debiased) for one, other in ((a, b), (a, a), (b, b))])


def _hsic(a: Array, b: Array, debiased: bool) -> float:
    """Return the Hilbert-Schmidt independence criterion, up to a factor that CKA does not see."""
    n = len(a)
    product = float(np.vdot(a, b))
    if not debiased:
        return product
    sums = a.sum(axis=0), b.sum(axis=0)
    corrected = product + sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
    return float(corrected - 2 * (sums[0] @ sums[1]) / (n - 2))


def _alignment(products: Array) -> float:
    scale = products[1] * products[2]
    return float(products[0] / np.sqrt(scale)) if scale > 0 else math.nan
