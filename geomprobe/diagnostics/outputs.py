"""Measures of a classifier's outputs on its training data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from geomprobe.dynamics.margins import margins_of
from geomprobe.findings import Estimate


def margins(outputs: Tensor, classes: Tensor) -> Tensor:
    """Return by how much the output of each sample's class exceeds the largest other one.

    Parameters
    ----------
    outputs : Tensor of shape (n, C)
    classes : int Tensor of shape (n,)

    Returns
    -------
    Tensor of shape (n,)
        In float64, negative where the sample is misclassified.
    """
    return torch.from_numpy(margins_of(outputs, classes))


def margin(outputs: Tensor, classes: Tensor, *, share: float = 0.1) -> Estimate:
    """Return the margin that this share of the samples falls short of, or has: its quantile.

    Parameters
    ----------
    outputs, classes
        As for :func:`margins`.
    share : float
        In (0, 1): the smallest margin is ruled by outliers.

    Returns
    -------
    Estimate
        NaN with the reason where that margin is not positive.

    References
    ----------
    Jiang, Y. et al. (2020). Fantastic generalization measures and where to find them. ICLR,
    appendix C: the 10th percentile stands for the margin of the training set.
    """
    n = len(outputs)
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    value = float(margins(outputs, classes).kthvalue(max(1, int(share * n))).values)
    if not value > 0:
        reason = f"{share:.0%} of the training samples are misclassified: there is no margin"
        return Estimate.undefined(reason, n=n)
    return Estimate(value, exact=True, n=n)


def cross_entropy(outputs: Tensor, classes: Tensor) -> Estimate:
    """Return the mean cross-entropy."""
    each = functional.cross_entropy(outputs, classes, reduction="none")
    return _exact_mean(each)


def output_entropy(outputs: Tensor) -> Estimate:
    """Return the mean entropy of the classes that the model predicts, in nats."""
    logs = outputs.log_softmax(dim=1)
    return _exact_mean(-(logs.exp() * logs).sum(dim=1))


def _exact_mean(each: Tensor) -> Estimate:
    return Estimate(float(each.mean()), exact=True, n=len(each), method="all training samples")
