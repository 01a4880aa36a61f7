"""What the principal components of a random walk are: the null that a training path is held to."""

from __future__ import annotations

import numpy as np

from geomprobe.storage import Array


def random_walk_shares(n_points: int) -> Array:
    r"""Return the explained variances of the principal components of a random walk.

    The increments of the walk are independent, of one distribution, and in many more dimensions
    than there are points. The centred points are then the pseudo-inverse of the difference operator
    of a path graph applied to the increments, so that the covariance is the pseudo-inverse of its
    Laplacian, whose eigenvalues are :math:`4 \sin^2(\pi k / 2T)`:

    .. math::
        \lambda_k = \frac{1}{4 \sin^2(\pi k / 2T)}, \qquad
        \sum_k \lambda_k = \frac{T^2 - 1}{6}, \qquad
        \frac{\lambda_k}{\sum_j \lambda_j} \to \frac{6}{\pi^2 k^2}.

    Parameters
    ----------
    n_points : int
        T, the points of the walk.

    Returns
    -------
    float64 array of shape (T - 1,)
        Shares of the whole variance, the largest first; they sum to 1.

    Raises
    ------
    ValueError
        Fewer than two points.

    Notes
    -----
    Two components hold 76 % of the variance of a long walk, whatever it walks through. In d
    dimensions a share is larger than this by a term of order 1/d.

    References
    ----------
    Antognini, J. and Sohl-Dickstein, J. (2018). PCA of high dimensional random walks with
    comparison to neural network training. NeurIPS, section 2, where the limit is derived.
    """
    _require_points(n_points)
    angles = np.pi * np.arange(1, n_points) / (2 * n_points)
    shares: Array = 6 / (4 * np.sin(angles) ** 2 * (n_points**2 - 1))
    return shares


def random_walk_components(n_points: int, k: int = 2) -> Array:
    r"""Return the first principal components of a random walk over time.

    They are the eigenvectors of the Laplacian of a path graph, the cosines
    :math:`\sqrt{2/T} \cos(\pi k (t + 1/2) / T)`: any two of them draw a Lissajous curve.

    Parameters
    ----------
    n_points : int
        T, the points of the walk.
    k : int
        How many, at most T - 1.

    Returns
    -------
    float64 array of shape (T, k)
        Orthonormal columns.

    Raises
    ------
    ValueError
        Fewer than two points, or k outside 1 to T - 1.
    """
    _require_points(n_points)
    if not 1 <= k < n_points:
        raise ValueError(f"k must be from 1 to {n_points - 1}, got {k}")
    times = (np.arange(n_points) + 0.5) / n_points
    columns: Array = np.sqrt(2 / n_points) * np.cos(np.pi * np.outer(times, np.arange(1, k + 1)))
    return columns


def _require_points(n_points: int) -> None:
    if n_points < 2:
        raise ValueError(f"a walk takes two points or more, got {n_points}")
