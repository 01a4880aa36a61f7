"""Entropies and Betti curves of all dimensions, by giotto-tda where it is installed."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from geomprobe.storage import Array
from geomprobe.topology.diagrams import Diagrams, to_giotto
from geomprobe.topology.summaries import betti_curve, persistence_entropy


@cache
def giotto_installed() -> bool:
    """Whether giotto-tda's diagram transformers import; they do not with every scikit-learn."""
    try:
        import gtda.diagrams  # noqa: F401
    except Exception:  # an old giotto-tda fails in many ways on a new stack
        return False
    return True


def entropies(diagrams: Diagrams, *, giotto: bool | None = None) -> Array:
    """Return the persistence entropy in bits of each dimension; NaN where no bar dies.

    Parameters
    ----------
    diagrams : Diagrams
        With dimensions 0 to D.
    giotto : bool, optional
        Whether giotto-tda computes them; by default where it is installed.

    Returns
    -------
    array of shape (D + 1,)
    """
    if giotto_installed() if giotto is None else giotto:
        from gtda.diagrams import PersistenceEntropy

        entropy = PersistenceEntropy(nan_fill_value=None).fit_transform(to_giotto([diagrams]))[0]
        # giotto-tda gives NaN to bars of length zero only, as we do.
        result: Array = np.asarray(entropy, dtype=np.float64)
        return result
    return np.array([persistence_entropy(dgm) for dgm in diagrams])


def betti_curves(diagrams: Diagrams, grid: Any, *, giotto: bool | None = None) -> Array:
    """Return the Betti curve of each dimension on an evenly spaced grid.

    Parameters
    ----------
    diagrams : Diagrams
        With dimensions 0 to D.
    grid : array of shape (m,)
        Evenly spaced scales.
    giotto : bool, optional
        Whether giotto-tda computes them; by default where it is installed.

    Returns
    -------
    array of shape (D + 1, m)
    """
    grid = np.asarray(grid, dtype=np.float64)
    if giotto_installed() if giotto is None else giotto:
        from gtda.diagrams import BettiCurve

        # giotto-tda samples between the smallest birth and the largest death that it was fitted
        # to, in each dimension: fitting to one bar as long as the grid makes it sample the grid.
        span = np.array([[[grid[0], grid[-1], dim] for dim in range(len(diagrams))]])
        beyond = grid[-1] + (grid[-1] - grid[0]) + 1
        curves = BettiCurve(n_bins=len(grid)).fit(span)
        return np.asarray(
            curves.transform(to_giotto([diagrams], infinity_value=beyond))[0], dtype=np.float64
        )
    return np.stack([betti_curve(dgm, grid) for dgm in diagrams])
