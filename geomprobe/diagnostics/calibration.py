"""A combination of diagnostics, fitted on one's own zoo, and what it is worth there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geomprobe.diagnostics.partial_rank import cross_fits, ridge
from geomprobe.diagnostics.rank_agreement import granulated_kendall, kendall
from geomprobe.diagnostics.zoo import ModelZoo
from geomprobe.storage import Array

_FEWEST = 20


@dataclass(frozen=True)
class PredictedRanks:
    """Where models would stand in a zoo by their gaps: 0 the smallest gap, 1 the largest.

    Parameters
    ----------
    rank, low, high : ndarray, shape (n_models,)
        The prediction and its interval, within [0, 1].
    """

    rank: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Calibration:
    """A ridge regression of gap ranks on the ranks of diagnostics.

    Parameters
    ----------
    diagnostics : tuple of str
        What it combines.
    coefficients : ndarray, shape (n_diagnostics,)
        How the predicted rank moves as a diagnostic goes from its lowest to its highest rank.
    tau, psi : float
        Kendall's tau-b and granulated Kendall of the cross-fitted predictions.
    half_width : float
        Half of the interval around a prediction.
    level : float
        How often the interval is meant to hold the rank.
    n_cells : int
        How many cells it was fitted on.
    """

    diagnostics: tuple[str, ...]
    coefficients: Array
    tau: float
    psi: float
    half_width: float
    level: float
    n_cells: int
    _intercept: float
    _references: tuple[Array, ...]

    def predict(self, diagnostics: Mapping[str, Array]) -> PredictedRanks:
        """Predict where models of the same family stand.

        Parameters
        ----------
        diagnostics : mapping of str to ndarray, shape (n_models,)
            Every diagnostic of the calibration; a NaN is read as a middle rank.

        Raises
        ------
        ValueError
            For a diagnostic that is not given.
        """
        missing = [name for name in self.diagnostics if name not in diagnostics]
        if missing:
            raise ValueError(f"the calibration also asks for {missing}")
        ranks = _features(diagnostics, self.diagnostics, self._references)
        rank = self._intercept + ranks @ self.coefficients
        return PredictedRanks(
            *(np.clip(rank + side * self.half_width, 0, 1) for side in (0, -1, 1))
        )


def calibrate(
    zoo: ModelZoo,
    *,
    diagnostics: Sequence[str] | None = None,
    level: float = 0.9,
    folds: int = 5,
    seed: int = 0,
) -> Calibration:
    """Fit a combination of diagnostics on a zoo of your own.

    Ranks of the gap are regressed on ranks of the diagnostics with a ridge penalty (by generalised
    cross-validation). Each fold of cells is predicted from the others; the score comes from these
    predictions alone, and the interval from those of the models one by one.

    Parameters
    ----------
    zoo : ModelZoo
        Models of the family that the predictions are for. It says nothing of another family.
    diagnostics : sequence of str, optional
        Which to combine; all by default. A NaN is read as a middle rank.
    level : float
        How often the interval is to hold.
    folds, seed : int
        Number of folds, and the seed of the split.

    Returns
    -------
    Calibration
        Its ``psi`` is to be held against the best single diagnostic's: a combination need not be
        better.

    Raises
    ------
    ValueError
        For fewer than 20 cells, an unknown diagnostic, or a level outside (0, 1).

    References
    ----------
    Barber, R. F., Candès, E. J., Ramdas, A. and Tibshirani, R. J. (2021). Predictive inference
    with the jackknife+. Annals of Statistics 49(1). The interval is that of cross-validation.
    """
    cells = zoo.cells
    names = tuple(zoo.diagnostics if diagnostics is None else diagnostics)
    unknown = [name for name in names if name not in zoo.diagnostics]
    if unknown or not names:
        raise ValueError(f"no diagnostic named {unknown}; there are {list(zoo.diagnostics)}")
    if len(cells) < _FEWEST:
        raise ValueError(f"{len(cells)} cells are too few to fit on: give {_FEWEST} at least")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    references = tuple(
        np.sort(cells.diagnostics[name][np.isfinite(cells.diagnostics[name])]) for name in names
    )
    ranks, one_by_one = (_features(of.diagnostics, names, references) for of in (cells, zoo))
    in_order = np.sort(cells.gap)
    gap, gaps = _rank_among(cells.gap, in_order), _rank_among(zoo.gap, in_order)
    predicted, missed = np.empty_like(gap), np.empty_like(gaps)
    for fold, fitted in cross_fits(ranks, gap, folds=folds, seed=seed):
        predicted[fold] = fitted.predict(ranks[fold])
        models = np.isin(zoo.cell, fold)
        missed[models] = np.abs(fitted.predict(one_by_one[models]) - gaps[models])
    # Beyond the largest miss no finite interval is sure enough.
    missed = np.append(np.sort(missed), 1.0)
    fitted = ridge(ranks, gap)
    return Calibration(
        diagnostics=names,
        coefficients=np.asarray(fitted.coef_, float),
        tau=kendall(predicted, cells.gap),
        psi=granulated_kendall(cells.levels, predicted, cells.gap).psi,
        half_width=float(missed[min(math.ceil((len(zoo) + 1) * level), len(zoo) + 1) - 1]),
        level=level,
        n_cells=len(cells),
        _intercept=float(fitted.intercept_),
        _references=references,
    )


def _features(
    diagnostics: Mapping[str, Array], names: Sequence[str], references: Sequence[Array]
) -> Array:
    """Return the rank of each model in each diagnostic among the cells, (n_models, n_names)."""
    ranks = [
        _rank_among(np.atleast_1d(np.asarray(diagnostics[name], float)), reference)
        for name, reference in zip(names, references, strict=True)
    ]
    return np.stack(ranks, axis=1)


def _rank_among(values: Array, reference: Array) -> Array:
    """Return mid-ranks among sorted reference values, in [0, 1]; 1/2 for NaN."""
    if not len(reference):
        return np.full(len(values), 0.5)
    below = np.searchsorted(reference, values, side="left")
    upto = np.searchsorted(reference, values, side="right")
    return np.where(np.isfinite(values), (below + upto) / 2 / len(reference), 0.5)
