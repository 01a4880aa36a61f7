"""The effective dimension of a statistical model at a resolution set by the number of data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from geomprobe.storage import Array


def effective_dimension(
    eigenvalues: Any,
    n: Any,
    *,
    n_parameters: int,
    gamma: float = 1.0,
    mean_trace: float | None = None,
) -> Any:
    r"""Local effective dimension from the spectrum of one Fisher information matrix.

    .. math::
        d_{n,\gamma} = \frac{\ln\det(I + \kappa \hat F)}{\ln\kappa}, \qquad
        \kappa = \frac{\gamma n}{2\pi\ln n}, \qquad
        \hat F = d\, \frac{F}{\operatorname{tr} F}

    with d the number of parameters. This is the limit of a ball of radius zero around the trained
    parameters.

    Parameters
    ----------
    eigenvalues : array of shape (M,)
        Eigenvalues of F; zeros may be left out. Slightly negative ones are taken as zeros.
    n : int or array of int
        Number of data that sets the resolution.
    n_parameters : int
        The d of the formula.
    gamma : float
        In (0, 1].
    mean_trace : float, optional
        What to normalise by instead of the trace of this F, such as its mean over parameters.

    Returns
    -------
    float, or array of the shape of n
        NaN for a Fisher information of zero. Not monotone in n; it diverges as kappa falls to 1,
        and may there be larger than the number of parameters.

    Raises
    ------
    ValueError
        ``kappa <= 1``, where the formula means nothing: at gamma = 1 this refuses n below 19. Or a
        parameter outside its range.

    References
    ----------
    Abbas, A., Sutter, D., Figalli, A. and Woerner, S. (2021). Effective dimension of machine
    learning models. arXiv:2112.04807, at one draw of the parameters.
    """
    return _effective_dimension([eigenvalues], n, n_parameters, gamma, mean_trace)


def global_effective_dimension(
    spectra: Iterable[Any], n: Any, *, n_parameters: int, gamma: float = 1.0
) -> Any:
    r"""Global effective dimension from Fisher spectra at draws of the parameters.

    .. math::
        d_{n,\gamma} = \frac{2}{\ln\kappa} \ln \frac{1}{m} \sum_{i=1}^m
        \sqrt{\det(I + \kappa \hat F(\theta_i))}, \qquad
        \hat F(\theta) = d\, \frac{F(\theta)}{\frac{1}{m} \sum_i \operatorname{tr} F(\theta_i)}

    Parameters
    ----------
    spectra : iterable of array
        Eigenvalues of F at each draw; their numbers may differ.
    n, n_parameters, gamma
        As for :func:`effective_dimension`, and so are result and errors.

    Notes
    -----
    The normaliser is the trace averaged over the draws, not the trace of each draw. The mean of
    determinants is taken in logarithms and is ruled by the largest of them, so that few draws tend
    to give too little.

    References
    ----------
    Abbas, A., Sutter, D., Zoufal, C., Lucchi, A., Figalli, A. and Woerner, S. (2021). The power of
    quantum neural networks. Nature Computational Science 1. arXiv:2011.00027.
    """
    return _effective_dimension(spectra, n, n_parameters, gamma, None)


def smallest_valid_n(gamma: float = 1.0) -> int:
    """Return the smallest n with ``gamma n / (2 pi ln n) > 1``: 19 for gamma = 1."""
    _require_gamma(gamma)
    low, high = 3, 6  # n / ln n grows from n = e on, and n = 2 is too small for any gamma <= 1
    while _kappa(high, gamma) <= 1:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _kappa(middle, gamma) <= 1 else (low, middle)
    return high


def resolution(n: Any, gamma: float = 1.0) -> Array:
    """Return ``kappa = gamma n / (2 pi ln n)``, the scale at which the Fisher is looked at.

    Raises
    ------
    ValueError
        An n that is below 2 or gives ``kappa <= 1``, or a gamma outside (0, 1].
    """
    _require_gamma(gamma)
    numbers = np.asarray(n, dtype=np.float64)
    if numbers.size == 0 or not np.isfinite(numbers).all() or numbers.min() < 2:
        raise ValueError(f"n must be a number of data of at least 2, got {n!r}")
    kappa: Array = np.asarray(_kappa(numbers, gamma))
    if kappa.min() <= 1:
        worst = float(numbers.ravel()[kappa.argmin()])
        raise ValueError(
            f"the effective dimension is not defined at n = {worst:g}, gamma = {gamma:g}: there "
            f"kappa = gamma n / (2 pi ln n) = {kappa.min():.4g}, and it must be above 1. The "
            f"smallest n that works with this gamma is {smallest_valid_n(gamma)}"
        )
    return kappa


def _kappa(n: Any, gamma: float) -> Any:
    return gamma * n / (2 * math.pi * np.log(n))


def _require_gamma(gamma: float) -> None:
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma must lie in (0, 1], got {gamma}")


def _effective_dimension(
    spectra: Iterable[Any], n: Any, n_parameters: int, gamma: float, mean_trace: float | None
) -> Any:
    kappa = resolution(n, gamma)
    if n_parameters < 1:
        raise ValueError(f"n_parameters must be at least 1, got {n_parameters}")
    draws = [np.maximum(np.asarray(one, dtype=np.float64), 0.0) for one in spectra]
    if not draws:
        raise ValueError("there is no spectrum; give the eigenvalues of at least one draw")
    for one in draws:
        if one.ndim != 1 or not np.isfinite(one).all():
            raise ValueError(
                f"each spectrum must be a finite array of shape (M,), got shape {one.shape}"
            )
    trace = float(np.mean([one.sum() for one in draws])) if mean_trace is None else mean_trace
    if not trace > 0:
        return np.full(kappa.shape, np.nan)[()]
    scale = kappa[..., None] * (n_parameters / trace)
    log_volumes = np.stack([0.5 * np.log1p(scale * one).sum(axis=-1) for one in draws])
    log_mean = np.logaddexp.reduce(log_volumes, axis=0) - math.log(len(draws))
    return 2 * log_mean / np.log(kappa)
