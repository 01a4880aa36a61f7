"""The tail of the spectrum of weight matrices: power-law exponents by maximum likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from geomprobe.diagnostics.layers import weighted_layers
from geomprobe.findings import Estimate

#: Below, an exponent is noise.
FEWEST = 100
_FEWEST_IN_TAIL = 10


@dataclass(frozen=True)
class PowerLaw:
    """A power law fitted to a tail; made by :func:`power_law`.

    Parameters
    ----------
    alpha : Estimate
        Exponent of the density, x^-alpha.
    smallest : float
        Where the tail begins.
    distance : float
        Kolmogorov-Smirnov distance of the tail from the power law.
    """

    alpha: Estimate
    smallest: float
    distance: float


def power_law(values: Any) -> PowerLaw:
    r"""Fit a power law to the tail of positive numbers.

    :math:`\alpha = 1 + n / \sum \ln (x_i / x_{min})` over the n values from :math:`x_{min}` on, for
    the :math:`x_{min}` among them that makes the Kolmogorov-Smirnov distance least.

    Parameters
    ----------
    values : array of shape (n,)
        Positive; at least 12 different ones. A tail has 10 at least.

    Returns
    -------
    PowerLaw
        The standard error of alpha, :math:`(\alpha - 1) / \sqrt{n}`, takes the beginning of the
        tail as given.

    Raises
    ------
    ValueError
        Too few values, or some that are not positive and finite.

    References
    ----------
    Clauset, A., Shalizi, C. R. and Newman, M. E. J. (2009). Power-law distributions in empirical
    data. SIAM Review 51, equations 3.1 and 3.9 and section 3.3.
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    if x.ndim != 1 or not np.isfinite(x).all() or len(np.unique(x)) < _FEWEST_IN_TAIL + 2:
        raise ValueError(f"a tail takes at least {_FEWEST_IN_TAIL + 2} different finite numbers")
    if x[0] <= 0:
        raise ValueError(f"the values of a power law are positive, got {x[0]:g}")
    logs, best = np.log(x), (math.inf, 0.0, 0)
    for first in np.flatnonzero(np.diff(x, prepend=0) > 0).tolist():
        tail = logs[first:] - logs[first]
        n = len(tail)
        if n < _FEWEST_IN_TAIL or tail.sum() <= 0:
            break
        alpha = 1 + n / tail.sum()
        fitted, steps = 1 - np.exp((1 - alpha) * tail), np.arange(n + 1) / n
        distance = max(np.abs(fitted - steps[:-1]).max(), np.abs(fitted - steps[1:]).max())
        best = min(best, (float(distance), float(alpha), first))
    distance, alpha, first = best
    n = len(x) - first
    stderr = (alpha - 1) / math.sqrt(n)
    estimate = Estimate(alpha, stderr, n=n, method="maximum likelihood, least KS distance")
    return PowerLaw(estimate, float(x[first]), distance)


def weighted_alpha(model: nn.Module, *, fewest: int = FEWEST) -> Estimate:
    r"""Return :math:`\hat\alpha`, the mean over layers of :math:`\alpha \log_{10} \lambda_{max}`.

    Of the eigenvalues of :math:`W^T W` for each weight matrix; the kernel of a convolution is taken
    as one matrix for each of its places.

    Parameters
    ----------
    model : torch.nn.Module
        Of linear and convolution layers.
    fewest : int
        Layers with fewer eigenvalues are left out: a power law has nothing to be fitted to there.

    Returns
    -------
    Estimate
        NaN with the reason where no layer is large enough.

    Raises
    ------
    ValueError
        The model has parameters elsewhere, or normalizes.

    References
    ----------
    Martin, C. H., Peng, T. and Mahoney, M. W. (2021). Predicting trends in the quality of
    state-of-the-art neural networks without access to training or testing data. Nature
    Communications 12.
    """
    found: list[tuple[float, float]] = []
    layers = weighted_layers(model)
    for layer in layers.values():
        weight = layer.weight.detach().double().cpu().numpy()
        matrices = np.moveaxis(weight.reshape(*weight.shape[:2], -1), 2, 0)
        if min(weight.shape[:2]) < fewest:
            continue
        values = np.concatenate([np.linalg.svd(m, compute_uv=False) ** 2 for m in matrices])
        values = values[values > values.max() * 1e-12]
        if len(np.unique(values)) < fewest:
            continue
        alpha, scale = power_law(values).alpha, math.log10(values.max())
        found.append((alpha.value * scale, alpha.stderr * scale))
    if not found:
        reason = f"none of {len(layers)} layers has {fewest} eigenvalues, and an exponent is noise"
        return Estimate.undefined(reason)
    each, errors = np.array(found).T
    stderr = float(np.sqrt((errors**2).sum())) / len(each)
    return Estimate(each.mean(), stderr, n=len(each), method=f"mean over {len(each)} layers")
