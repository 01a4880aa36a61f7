"""The score card of a diagnostic: how well it predicts the gap in a zoo, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from geomprobe.diagnostics.cards import Score, ScoreCard, ScoreTable
from geomprobe.diagnostics.conditional_information import ConditionalInformation
from geomprobe.diagnostics.pairs import neighbours
from geomprobe.diagnostics.partial_rank import (
    cross_fitted_spearman,
    explained_by_axis,
    partial_spearman,
    permutation_p,
)
from geomprobe.diagnostics.rank_agreement import granulated, kendall
from geomprobe.diagnostics.reference_rows import chance_band, noise_ceiling, oracle_rows
from geomprobe.diagnostics.reliability import seed_reliability
from geomprobe.diagnostics.sign_error import sign_errors
from geomprobe.diagnostics.verdicts import judged
from geomprobe.diagnostics.within_cells import within_cells
from geomprobe.diagnostics.zoo import ModelZoo
from geomprobe.storage import Array

_FEWEST = 8


def scorecard(
    zoo: ModelZoo,
    *,
    baselines: Sequence[str] = (),
    n_test: int | None = None,
    replicates: int = 1000,
    draws: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> ScoreTable:
    """Score every diagnostic of a zoo.

    Parameters
    ----------
    zoo : ModelZoo
        Trained models of one family. Larger diagnostics are read as larger gaps: declare the sign
        before you look.
    baselines : sequence of str
        Diagnostics that a predictive one must not fall behind, such as ``"learning_rate"``. A
        baseline is held to the best of the others.
    n_test : int, optional
        Test samples behind each gap of error rates: see :func:`sign_errors`.
    replicates : int
        Bootstrap resamples of the cells; intervals are their 2.5 and 97.5 percentiles.
    draws : int
        Permutations, and draws of the random diagnostic.
    seed : int
        Seed of everything random; a diagnostic's card does not depend on the others'.
    progress : bool
        Show a bar. An interrupt returns the cards that are done.

    Returns
    -------
    ScoreTable

    Raises
    ------
    ValueError
        For an unknown baseline, a zoo without diagnostics, or fewer than 2 replicates or draws.

    Notes
    -----
    The verdict on a diagnostic, by rule and in this order:

    * *predictive*: the interval of the partial correlation is above 0, and that of psi above both
      0 and the best baseline's psi less 0.05;
    * *under-powered*: the interval of the partial correlation holds both 0 and 0.3, so this zoo
      cannot say; or fewer than 8 cells have a number;
    * *confounded*: psi or tau is above 0.2, and the partial correlation may be 0 or is not
      defined: what it knows of the gap, the hyper-parameters know;
    * *not predictive*: anything else.

    About 5 s a diagnostic at 216 cells, O(replicates n^2 axes^2) in all, and O(n^2 axes^2) memory.

    References
    ----------
    Jiang et al. (2020), ICLR; Dziugaite et al. (2020), NeurIPS; Benjamini and Hochberg (1995).
    """
    if not zoo.diagnostics:
        raise ValueError("the zoo has no diagnostics to score")
    unknown = set(baselines) - {*zoo.diagnostics}
    if unknown:
        raise ValueError(
            f"no diagnostic named {sorted(unknown)}; there are {list(zoo.diagnostics)}"
        )
    from tqdm.auto import tqdm

    if min(replicates, draws) < 2:
        raise ValueError(f"replicates and draws must be at least 2, got {replicates} and {draws}")
    cards: dict[str, ScoreCard] = {}
    # Baselines first: no verdict without them, should this be interrupted.
    names = sorted(zoo.diagnostics, key=lambda name: name not in baselines)
    try:
        for name in tqdm(names, desc="score cards", disable=not progress):
            cards[name] = _card(zoo, name, n_test, replicates, draws, seed)
    except KeyboardInterrupt:
        if not cards:
            raise
    cells = zoo.cells
    near, n_axes, ones = neighbours(cells.levels), len(cells.axes), np.ones(len(cells))

    def psi(measure: Array, gap: Array = cells.gap) -> float:
        return granulated(near, n_axes, measure, gap, ones).psi

    conditions = ConditionalInformation(cells.levels)
    scores: dict[str, Callable[[Array], float]] = {
        "psi": psi,
        "information": lambda m: conditions.of(m, cells.gap)(ones),
        "partial": lambda m: partial_spearman(m, cells.gap, cells.levels),
    }
    return ScoreTable(
        cards=judged({name: cards[name] for name in zoo.diagnostics if name in cards}, baselines),
        n_cells=len(cells),
        n_models=len(zoo),
        chance={
            name: chance_band(len(cells), score, draws=draws, seed=seed)
            for name, score in scores.items()
        },
        oracles=oracle_rows(cells, psi, seed=seed),
        ceiling=noise_ceiling(cells, psi),
    )


def psi_difference(
    zoo: ModelZoo, one: str, other: str, *, replicates: int = 1000, seed: int = 0
) -> Score:
    """Return by how much one diagnostic's psi exceeds another's, on the same resampled cells.

    The interval of a paired difference is narrower than those of the two scores suggest; that one
    beats the other is shown where it excludes 0. Cells for which either has no number are left out.

    Raises
    ------
    ValueError
        For a diagnostic that the zoo does not have.
    """
    for name in (one, other):
        if name not in zoo.diagnostics:
            raise ValueError(f"no diagnostic named {name!r}; there are {list(zoo.diagnostics)}")
    cells = zoo.cells
    a, b = cells.diagnostics[one], cells.diagnostics[other]
    known = np.isfinite(a) & np.isfinite(b)
    a, b, gap, levels = a[known], b[known], cells.gap[known], cells.levels[known]
    near, n_axes = neighbours(levels), levels.shape[1]

    def difference(weight: Array) -> Array:
        return np.array(
            [
                granulated(near, n_axes, a, gap, weight).psi
                - granulated(near, n_axes, b, gap, weight).psi
            ]
        )

    return _bootstrap(difference, len(gap), replicates, seed)[0]


def _card(
    zoo: ModelZoo, name: str, n_test: int | None, replicates: int, draws: int, seed: int
) -> ScoreCard:
    values = zoo.diagnostics[name]
    failed = float((~np.isfinite(values)).mean())
    cells = zoo.cells
    known = np.isfinite(cells.diagnostics[name])
    if known.sum() < _FEWEST:
        nothing = Score(math.nan)
        reason = (
            f"{int(known.sum())} of {len(cells)} cells have a number, and a score takes {_FEWEST}"
        )
        return ScoreCard(name, *5 * (nothing,), failed=failed, reason=reason)
    levels, gap, measure = cells.levels[known], cells.gap[known], cells.diagnostics[name][known]
    near, n_axes = neighbours(levels), levels.shape[1]
    information = ConditionalInformation(levels).of(measure, gap)

    def statistic(weight: Array) -> Array:
        rows = np.repeat(np.arange(len(weight)), weight.astype(int))
        return np.array(
            [
                kendall(measure, gap, weight),
                granulated(near, n_axes, measure, gap, weight).psi,
                information(weight),
                partial_spearman(measure[rows], gap[rows], levels[rows]),
            ]
        )

    by_axis = granulated(near, n_axes, measure, gap, np.ones(len(gap))).by_axis
    tau, psi, bits, partial = _bootstrap(statistic, len(gap), replicates, seed)
    models = np.isfinite(values)
    index = np.unique(zoo.cell[models], return_inverse=True)[1].reshape(-1)
    seeds = within_cells(zoo.cell[models], values[models], zoo.gap[models], draws=draws, seed=seed)
    errors = sign_errors(levels, index, values[models], zoo.gap[models], n_test=n_test)
    wrong = errors.errors
    spread = 1.96 * wrong.std(ddof=1) / math.sqrt(len(wrong)) if len(wrong) > 1 else math.nan
    return ScoreCard(
        name=name,
        tau=tau,
        psi=psi,
        information=bits,
        partial=partial,
        sign_error=Score(errors.mean, errors.mean - spread, errors.mean + spread),
        psi_by_axis=dict(zip(cells.axes, by_axis.tolist(), strict=True)),
        explained=dict(zip(cells.axes, explained_by_axis(measure, levels).tolist(), strict=True)),
        cross_fitted=cross_fitted_spearman(measure, gap, levels, seed=seed),
        within_cells=seeds.agreement,
        within_cells_p=seeds.p,
        worst_sign_error=errors.largest,
        p90_sign_error=errors.p90,
        p=permutation_p(measure, gap, levels, draws=draws, seed=seed),
        reliability=seed_reliability(zoo.cell, values),
        failed=failed,
    )


def _bootstrap(
    statistic: Callable[[Array], Array], n: int, replicates: int, seed: int
) -> list[Score]:
    """Score all cells, and resample cells for the interval."""
    generator = np.random.default_rng(seed)
    value = statistic(np.ones(n))
    resampled = np.array(
        [
            statistic(np.bincount(generator.integers(n, size=n), minlength=n).astype(float))
            for _ in range(replicates)
        ]
    )
    scores = []
    for one, column in zip(value, resampled.T, strict=True):
        finite = column[np.isfinite(column)]
        low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (math.nan, math.nan)
        scores.append(Score(float(one), float(low), float(high)))
    return scores
