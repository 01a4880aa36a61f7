"""Whether a diagnostic ranks models as their gaps do: Kendall's tau, whole and granulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geomprobe.diagnostics.pairs import Neighbours, neighbours, sign_products
from geomprobe.storage import Array


@dataclass(frozen=True)
class GranulatedKendall:
    """Kendall's tau within groups that differ in one hyper-parameter only.

    Parameters
    ----------
    psi : float
        Mean of ``by_axis``.
    by_axis : ndarray, shape (n_axes,)
        Mean of tau over the groups of each hyper-parameter; NaN where no group has two cells.
    """

    psi: float
    by_axis: Array


def granulated_kendall(levels: Array, measure: Array, gap: Array) -> GranulatedKendall:
    r"""Measure the agreement of two orders one hyper-parameter at a time.

    For axis i, tau is taken within every set of cells that differ in that axis only, and averaged:
    :math:`\psi_i`; :math:`\Psi` is the mean of these over the axes. A diagnostic that encodes one
    hyper-parameter alone is right on one axis and worth nothing on the others.

    Parameters
    ----------
    levels : ndarray of int, shape (n, n_axes)
        One row a cell. Cells may be missing: a group then has the cells that there are, and one
        of a single cell is left out.
    measure, gap : ndarray, shape (n,)
        The diagnostic and the gap of each cell.

    Returns
    -------
    GranulatedKendall
        In [-1, 1]; a tie on either side counts as half right, so a constant gets 0.

    References
    ----------
    Jiang, Y., Neyshabur, B., Mobahi, H., Krishnan, D. and Bengio, S. (2020). Fantastic
    generalization measures and where to find them. ICLR. Equations 4 and 5.
    """
    return granulated(neighbours(levels), levels.shape[1], measure, gap, np.ones(len(gap)))


def granulated(
    near: Neighbours, n_axes: int, measure: Array, gap: Array, weight: Array
) -> GranulatedKendall:
    """Return the score of cells that count as often as their weights say."""
    credit = sign_products(measure, gap, near.first, near.second)
    weights = weight[near.first] * weight[near.second]
    total = np.bincount(near.group, weights)
    agreement = np.bincount(near.group, weights * credit)
    axis = np.zeros(len(total), int)
    axis[near.group] = near.axis
    seen = total > 0
    groups = np.bincount(axis[seen], minlength=n_axes)
    summed = np.bincount(axis[seen], agreement[seen] / total[seen], minlength=n_axes)
    by_axis = np.where(groups > 0, summed / np.maximum(groups, 1), np.nan)
    known = by_axis[np.isfinite(by_axis)]
    return GranulatedKendall(float(known.mean()) if len(known) else float("nan"), by_axis)


def kendall(measure: Array, gap: Array, weight: Array | None = None) -> float:
    """Return Kendall's tau-b; NaN where either side is constant.

    Parameters
    ----------
    measure, gap : ndarray, shape (n,)
    weight : ndarray, shape (n,), optional
        How often each counts, as in a bootstrap.

    References
    ----------
    Kendall, M. G. (1945). The treatment of ties in ranking problems. Biometrika 33(3).
    """
    one = np.ones(len(gap)) if weight is None else weight
    a = np.sign(measure[:, None] - measure)
    b = np.sign(gap[:, None] - gap)
    size = (one @ np.abs(a) @ one) * (one @ np.abs(b) @ one)
    return float(one @ (a * b) @ one / np.sqrt(size)) if size > 0 else float("nan")
