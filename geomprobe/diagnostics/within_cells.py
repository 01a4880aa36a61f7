"""Whether a diagnostic tells apart models that differ in their seeds alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geomprobe.diagnostics.pairs import require_numbers
from geomprobe.storage import Array


@dataclass(frozen=True)
class WithinCells:
    """Agreement between seeds of equal hyper-parameters.

    Parameters
    ----------
    agreement : float
        Mean over pairs of models of one cell: 1 where all are ordered as their gaps, -1 where all
        are ordered against them.
    p : float
        One-sided, by permutation of the diagnostic within each cell.
    """

    agreement: float
    p: float


def within_cells(
    cell: Array, measure: Array, gap: Array, *, draws: int = 1000, seed: int = 0
) -> WithinCells:
    """Measure the agreement of two orders among models of equal hyper-parameters.

    Everything that was chosen is held fixed, interactions of any order included, so a proxy of
    the hyper-parameters has no part in it. In return it sees only what seeds change.

    Parameters
    ----------
    cell : ndarray of int, shape (n,)
        The cell of each model.
    measure, gap : ndarray, shape (n,)
    draws : int
        Number of permutations.
    seed : int

    Returns
    -------
    WithinCells
        NaN where no cell has two models.

    Raises
    ------
    ValueError
        For NaN.

    Notes
    -----
    O(draws n log n + draws pairs).
    """
    require_numbers(measure, gap)
    first, second = np.triu_indices(len(cell), k=1)
    same = cell[first] == cell[second]
    first, second = first[same], second[same]
    if not len(first):
        return WithinCells(float("nan"), float("nan"))
    order = np.sign(gap[first] - gap[second])

    def agreement(values: Array) -> float:
        return float((np.sign(values[first] - values[second]) * order).mean())

    generator = np.random.default_rng(seed)
    sorted_rows = np.argsort(cell, kind="stable")
    observed, shuffled, beyond = agreement(measure), np.empty_like(measure), 0
    for _ in range(draws):
        mixed = np.lexsort((generator.random(len(cell)), cell))
        shuffled[sorted_rows] = measure[mixed]
        beyond += agreement(shuffled) >= observed - 1e-12
    return WithinCells(observed, (1 + beyond) / (1 + draws))
