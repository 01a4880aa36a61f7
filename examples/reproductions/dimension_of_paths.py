"""PH dimension of the path of SGD follows the gap, as far as learning rate and batch size do.

**Claim.** Over a grid of learning rates and batch sizes, the persistent homology dimension of the
iterates of SGD grows with the generalization gap. Birdal, T., Lou, A., Guibas, L. and Şimşekli,
U. (2021), *Intrinsic dimension, persistent homology and generalization in neural networks*,
NeurIPS. But both follow the hyper-parameters: with these controlled, little of the correlation is
left, and the plain norm of the final weights correlates with the gap more strongly. Tan, C. B.,
García-Redondo, I., Wang, Q., Bronstein, M. M. and Monod, A. (2024), *On the limitations of
fractal dimension as a measure of generalization*, NeurIPS.

**Here.** Perceptrons of two hidden layers of 64 units on MNIST-1D, plain SGD to a cross-entropy
of 0.05, five learning rates by five batch sizes, two seeds each, by the protocol of
`geomprobe.zoos`; the 400 iterates after that, of which `ph_dimension_euclidean` of the group
`trajectory` is taken. The gap is that of error rates, on 10,000 test samples. What decides:
Kendall's rank correlation of dimension and gap over all models; Spearman's given learning rate and
batch size (`geomprobe.diagnostics.partial_spearman`), and how much smaller it is than without;
and the rank correlation of the gap with the norm of the weights, less that with the dimension,
both without their signs. Standard errors are by bootstrap over the cells of the grid.

**What differs.** Birdal et al. take the last 1,000 iterates before the training accuracy reaches
100 %, larger networks and images, one seed; Tan et al. control for the learning rate at each batch
size. Control here is for both, as main effects, and what seeds change within a cell counts too. A
first grid over the same range, four by four, left three of the five numbers open: given both, the
correlation was 0.32 (-0.26 to 0.90).

**What it does not show.** What the dimension is worth in other families: see the score cards.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from joblib import Parallel, delayed
from reproduction import Check, reproduce
from scipy.stats import spearmanr

from geomprobe.diagnostics import kendall, partial_spearman
from geomprobe.zoos import After, Stop, ZooProtocol, train_and_measure

MEASURES = {
    "ph_dimension_euclidean": "PH dimension",
    "ph_dimension_loss": "the same, by losses",
    "trajectory_length": "length of the path",
    "parameter_norm": "norm of the weights",
    "batch_over_rate": "batch size / rate",
}


def protocol(smoke: bool) -> ZooProtocol:
    """Return the grid, and how its models are trained."""
    return ZooProtocol(
        "dimension of paths",
        "geomprobe.zoos.tasks:mnist1d",
        axes={"lr": (0.3, 0.4), "batch_size": (32, 64)}
        if smoke
        else {"lr": (0.1, 0.15, 0.22, 0.33, 0.5), "batch_size": (16, 27, 45, 76, 128)},
        seeds=(0, 1),
        fixed={"momentum": 0.0, "width": 32 if smoke else 64, "depth": 2},
        stop=Stop(cross_entropy=2.0 if smoke else 0.05),
        after=After(iterates=60 if smoke else 400, samples=100),
        groups=("hyperparameters", "layers", "trajectory"),
    )


def scores(values: np.ndarray, gaps: np.ndarray, levels: np.ndarray) -> list[list[float]]:
    """Return of each measure, a column of values: Kendall, Spearman, and Spearman given levels."""
    found = []
    for column in values.T:
        known = np.isfinite(column)
        one, gap = column[known], gaps[known]
        given = partial_spearman(one, gap, levels[known])
        found.append([kendall(one, gap), spearmanr(one, gap).statistic, given])
    return found


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Train the grid, and correlate."""
    plan = protocol(smoke)
    records = Parallel(n_jobs=2)(delayed(train_and_measure)(plan, model) for model in plan.models)
    kept = [one for one in records if not one.failed]
    values = np.array([[one.measures[name].value for name in MEASURES] for one in kept])
    gaps = np.array([one.gaps["gap"] for one in kept])
    levels = np.array(
        [[axis.index(one.settings[name]) for name, axis in plan.axes.items()] for one in kept]
    )
    cells = [np.flatnonzero((levels == level).all(axis=1)) for level in np.unique(levels, axis=0)]
    found = np.array(scores(values, gaps, levels))
    generator = np.random.default_rng(0)
    again = []
    for _ in range(20 if smoke else 1000):
        drawn = generator.integers(len(cells), size=len(cells))
        rows = np.concatenate([cells[cell] for cell in drawn])
        again.append(scores(values[rows], gaps[rows], levels[rows]))
    resampled = np.array(again)

    def stderr(number: Any) -> float:
        return float(np.nanstd(number, axis=0, ddof=1))

    def stronger(of: np.ndarray) -> Any:
        return np.abs(of[..., 3, 1]) - np.abs(of[..., 0, 1])

    def explained(of: np.ndarray) -> Any:
        return of[..., 0, 1] - of[..., 0, 2]

    checks = [
        Check(
            "share of models without a dimension",
            1 - np.isfinite(values[:, 0]).sum() / len(records),
            at_most=0.1,
        ),
        Check(
            "rank correlation (Kendall) of PH dimension and gap",
            found[0, 0],
            stderr(resampled[:, 0, 0]),
            at_least=0.2,
        ),
        Check(
            "the same (Spearman) given learning rate and batch size",
            found[0, 2],
            stderr(resampled[:, 0, 2]),
            at_most=0.3,
        ),
        Check(
            "Spearman without these, less that with them",
            explained(found),
            stderr(explained(resampled)),
            at_least=0.1,
        ),
        Check(
            "size of Spearman's correlation, norm of weights less PH dimension",
            stronger(found),
            stderr(stronger(resampled)),
            at_least=0.0,
        ),
    ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for k, rate in enumerate(plan.axes["lr"]):
        of_rate = levels[:, 0] == k
        sizes = 12 * (1 + levels[of_rate, 1])
        left.scatter(values[of_rate, 0], gaps[of_rate], s=sizes, alpha=0.7, label=f"{rate:g}")
    left.set(xlabel="PH dimension", ylabel="gap", title="larger dots: larger batches")
    left.legend(title="learning rate", fontsize=8)
    for k, colour, shift, label in ((1, "C0", -0.1, "raw"), (2, "C1", 0.1, "given both")):
        right.errorbar(
            found[:, k],
            np.arange(len(MEASURES)) + shift,
            xerr=1.96 * np.nanstd(resampled[:, :, k], axis=0, ddof=1),
            fmt="o",
            color=colour,
            label=label,
        )
    right.axvline(0, color="grey", lw=0.8)
    right.set(xlabel="rank correlation with the gap (Spearman)")
    right.set_yticks(np.arange(len(MEASURES)), MEASURES.values())
    right.invert_yaxis()
    right.legend(fontsize=8)
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
