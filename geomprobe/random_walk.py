"""What a path that is nothing but a random walk looks like: the null of every path statistic."""

from __future__ import annotations

import numpy as np

from geomprobe.storage import Array


def walk_variances(n_points: int, components: int | None = None) -> Array:
    r"""Return the shares of variance that PCA finds in a random walk, the largest first.

    .. math::
        \rho_k = \frac{6}{T^2 - 1} \cdot \frac{1}{4 \sin^2(\pi k / 2T)}, \qquad k = 1, \ldots, T - 1

    Parameters
    ----------
    n_points : int
        Points T of the walk, at least 2.
    components : int, optional
        How many shares; by default all T - 1.

    Returns
    -------
    array of shape (min(components, T - 1),)

    Notes
    -----
    With increments of one length that are orthogonal to each other, as those of a walk in very many
    dimensions are, the Gram matrix of the centred points is the pseudo-inverse of the Laplacian of
    a path of T vertices. Its eigenvectors are cosines, so that projections on two components draw
    Lissajous curves, and its eigenvalues are those above. The first share tends to
    :math:`6/\pi^2 = 0.608`.

    References
    ----------
    Antognini, J. and Sohl-Dickstein, J. (2018). PCA of high dimensional random walks with
    comparison to neural network training. NeurIPS.
    """
    _require_points(n_points)
    k = np.arange(1, n_points if components is None else min(components + 1, n_points))
    shares: Array = 6 / (n_points**2 - 1) / (4 * np.sin(np.pi * k / (2 * n_points)) ** 2)
    return shares


def walk_components(n_points: int, k: int = 2) -> Array:
    r"""Return the first principal components of a random walk over time.

    They are the cosines :math:`\sqrt{2/T} \cos(\pi k (t + 1/2) / T)`, of which any two draw a
    Lissajous curve.

    Parameters
    ----------
    n_points : int
        Points T of the walk, at least 2.
    k : int
        How many, at most T - 1.

    Returns
    -------
    array of shape (T, k)
        Orthonormal columns.

    References
    ----------
    As of :func:`walk_variances`.
    """
    _require_points(n_points)
    if not 1 <= k < n_points:
        raise ValueError(f"k must be from 1 to {n_points - 1}, got {k}")
    times = (np.arange(n_points) + 0.5) / n_points
    columns: Array = np.sqrt(2 / n_points) * np.cos(np.pi * np.outer(times, np.arange(1, k + 1)))
    return columns


def walk_participation(n_points: int) -> float:
    r"""Return the participation ratio of PCA of a random walk in many dimensions.

    .. math::
        \frac{(\sum_k \rho_k)^2}{\sum_k \rho_k^2} = \frac{5 (T^2 - 1)}{2 T^2 + 7}

    Parameters
    ----------
    n_points : int
        Points T of the walk, at least 2.

    Returns
    -------
    float
        It tends to 5/2, in however many dimensions; in few it is smaller.

    References
    ----------
    As of :func:`walk_variances`, whose squares sum to a polynomial in T.
    """
    _require_points(n_points)
    return 5 * (n_points**2 - 1) / (2 * n_points**2 + 7)


def _require_points(n_points: int) -> None:
    if n_points < 2:
        raise ValueError(f"a walk has at least 2 points, got {n_points}")
