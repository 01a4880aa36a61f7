"""Numbers and curves of one persistence diagram."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from geomprobe.storage import Array
from geomprobe.topology.diagrams import as_bars


def persistence_entropy(dgm: Any, normalize: bool = False) -> float:
    """Return the Shannon entropy, in bits, of the lengths of the bars that die.

    The lengths are taken as shares of their sum: k bars of equal length have log2(k). NaN where
    there is no bar of positive length.

    Parameters
    ----------
    dgm : array of shape (n, 2)
        Bars that never die are left out.
    normalize : bool
        Whether to divide by log2 of the sum of the lengths, as giotto-tda does. The result depends
        on the unit of length, and is NaN where the sum is 1.

    References
    ----------
    Atienza, N., González-Díaz, R. and Soriano-Trigueros, M. (2020). On the stability of persistent
    entropy. Pattern Recognition 107. Normalized: Myers, A., Munch, E. and Khasawneh, F. A. (2019).
    Persistent homology of complex networks for dynamic state detection. Physical Review E 100.
    """
    lengths = _lengths(dgm)
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return math.nan
    total = float(lengths.sum())
    shares = lengths / total
    entropy = float(-(shares * np.log2(shares)).sum())
    if not normalize:
        return entropy
    return entropy / math.log2(total) if total != 1 else math.nan


def total_persistence(dgm: Any, alpha: float = 1.0) -> float:
    """Add up the lengths of the bars that die, each to the power alpha.

    In H0 of a Rips filtration with alpha = 1 this is the length of the minimum spanning tree.
    """
    return float((_lengths(dgm) ** alpha).sum())


def longest_bar(dgm: Any) -> float:
    """Return the length of the longest bar that dies; NaN where none does."""
    lengths = _lengths(dgm)
    return float(lengths.max()) if len(lengths) else math.nan


def betti_curve(dgm: Any, grid: Any) -> Array:
    """Count the bars alive at each scale of a grid: those with birth <= scale < death.

    Parameters
    ----------
    dgm : array of shape (n, 2)
        Bars that never die are counted from their birth on.
    grid : array of shape (m,)
        Scales.

    Returns
    -------
    float array of shape (m,)
    """
    births, deaths = as_bars(dgm).T
    grid = np.asarray(grid, dtype=np.float64)
    born = np.searchsorted(np.sort(births), grid, side="right")
    died = np.searchsorted(np.sort(deaths), grid, side="right")
    alive: Array = (born - died).astype(np.float64)
    return alive


def _lengths(dgm: Any) -> Array:
    births, deaths = as_bars(dgm).T
    alive = np.isfinite(deaths)
    lengths: Array = deaths[alive] - births[alive]
    return lengths
