"""How many directions a spectrum fills.

The first two numbers are called "effective rank" elsewhere, and so is the entropy of the normalised
spectrum (Roy and Vetterli 2007): geomprobe uses that name for none of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geomprobe.storage import Array


def stable_rank(eigenvalues: Any) -> float:
    """Return the stable rank ``sum(l) / max(l)`` of a positive semi-definite matrix.

    Parameters
    ----------
    eigenvalues : array of shape (M,)
        In any order. Zeros do not matter; slightly negative values of rounding are taken as zeros.

    Returns
    -------
    float
        Between 1 and the rank; NaN for a zero matrix.

    Raises
    ------
    ValueError
        The eigenvalues are no finite one-dimensional array.
    """
    values = _nonnegative(eigenvalues)
    largest = values.max(initial=0.0)
    return float(values.sum() / largest) if largest > 0 else math.nan


def participation_ratio(eigenvalues: Any) -> float:
    """Return the participation ratio ``sum(l)^2 / sum(l^2)`` of a positive semi-definite matrix.

    Parameters, result and errors as for :func:`stable_rank`. It is never smaller than the stable
    rank, and equals the rank where all nonzero eigenvalues are equal.
    """
    values = _nonnegative(eigenvalues)
    largest = values.max(initial=0.0)
    if largest <= 0:
        return math.nan
    relative = values / largest
    return float(relative.sum() ** 2 / (relative**2).sum())


def effective_parameters(eigenvalues: Any, z: float) -> float:
    r"""Return MacKay's number of well determined parameters, :math:`\sum_i l_i / (l_i + z)`.

    Parameters
    ----------
    eigenvalues : array of shape (M,)
        Of a Hessian, Gauss-Newton matrix or Fisher information; zeros may be left out. Negative
        ones, which a Hessian has away from a minimum, count as zeros.
    z : float
        The regularisation, in units of the eigenvalues: a weight decay, or the precision of a prior
        over the number of data for the Hessian of a mean loss.

    Returns
    -------
    float
        From 0 to the rank.

    Raises
    ------
    ValueError
        A z that is not positive, or eigenvalues that are no finite one-dimensional array.

    References
    ----------
    MacKay, D. J. C. (1992). Bayesian interpolation. Neural Computation 4. As the effective
    dimension of a network: Maddox, W. J., Benton, G. and Wilson, A. G. (2020). Rethinking parameter
    counting in deep models. arXiv:2003.02139.
    """
    if not z > 0:
        raise ValueError(f"z must be positive, got {z}")
    values = _nonnegative(eigenvalues)
    return float((values / (values + z)).sum())


def _nonnegative(eigenvalues: Any) -> Array:
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(
            f"eigenvalues must be a finite array of shape (M,), got shape {values.shape}"
            + ("" if values.ndim != 1 else " with NaN or infinity")
        )
    return np.maximum(values, 0.0)
