"""How often a diagnostic points the wrong way when one hyper-parameter changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geomprobe.diagnostics.pairs import neighbours
from geomprobe.storage import Array


@dataclass(frozen=True)
class SignErrors:
    """Sign errors over environments: 0 always right, 1/2 chance, 1 always wrong.

    Parameters
    ----------
    mean, p90, largest : float
        Over the environments in ``errors``.
    errors : ndarray, shape (n_environments,)
        One number for each pair of cells that differ in one hyper-parameter, and whose gaps the
        test set can tell apart.
    """

    mean: float
    p90: float
    largest: float
    errors: Array


def sign_errors(
    levels: Array, cell: Array, measure: Array, gap: Array, *, n_test: int | None = None
) -> SignErrors:
    r"""Measure how robust the sign of a diagnostic is over environments.

    An environment is a pair of cells that differ in one hyper-parameter. Its error is the share of
    pairs of models, one from each cell, that diagnostic and gap order differently; a tie is half
    an error. Pairs count by :math:`\max(0, 1 - 2 e^{-2 n (\Delta/2)^2})^2`, Hoeffding's assurance
    that a difference of gaps Δ is real on n test samples.

    Parameters
    ----------
    levels : ndarray of int, shape (n_cells, n_axes)
    cell : ndarray of int, shape (n_models,)
        The cell of each model.
    measure, gap : ndarray, shape (n_models,)
    n_test : int, optional
        How many test samples a gap of error rates was measured on; without it every pair of
        different gaps counts alike.

    Returns
    -------
    SignErrors
        NaN where no environment has a gap that can be told.

    References
    ----------
    Dziugaite, G. K. et al. (2020). In search of robust measures of generalization. NeurIPS.
    Sections 3 and 4.
    """
    near = neighbours(levels)
    members = [np.flatnonzero(cell == index) for index in range(len(levels))]
    found = []
    for a, b in zip(near.first, near.second, strict=True):
        one, other = members[a], members[b]
        change = np.subtract.outer(gap[one], gap[other])
        weight = (change != 0).astype(float)
        if n_test is not None:
            weight = np.maximum(0.0, 1 - 2 * np.exp(-2 * n_test * (change / 2) ** 2)) ** 2
        wrong = (1 - np.sign(change) * np.sign(np.subtract.outer(measure[one], measure[other]))) / 2
        if weight.sum() > 0:
            found.append((weight * wrong).sum() / weight.sum())
    errors = np.array(found)
    if not len(errors):
        return SignErrors(*3 * (float("nan"),), errors)
    return SignErrors(
        float(errors.mean()), float(np.quantile(errors, 0.9)), float(errors.max()), errors
    )
