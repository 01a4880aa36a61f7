"""Measures of the iterates after convergence, beside the plain length of their path."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from geomprobe.clouds import Trajectory
from geomprobe.diagnostics.trained import TrainedModel
from geomprobe.findings import Estimate
from geomprobe.storage import Array

_SIZES, _SUBSETS, _REPLICATES = 16, 10, 2
_MISSING = "{} were not recorded with the iterates"


def trajectory(trained: TrainedModel) -> dict[str, Estimate]:
    """PH dimension, spanning tree and positive magnitude under three distances of iterates.

    Raises
    ------
    ValueError
        There are no iterates.
    """
    if trained.trajectory is None:
        raise ValueError("no iterates were recorded")
    return trajectory_measures(trained.trajectory, len(trained.train), seed=trained.seed)


def trajectory_measures(path: Trajectory, n_train: int, *, seed: int = 0) -> dict[str, Estimate]:
    r"""Measure the shape of a set of iterates.

    Parameters
    ----------
    path : Trajectory
        Iterates, with ``step_norms`` in its meta for their exact steps, and losses of samples and
        whether these are classified rightly for the distances by them.
    n_train : int
        Number of training samples, m: magnitude is taken at the scale :math:`\sqrt m`.
    seed : int
        Seed of the subsets.

    Returns
    -------
    dict of str to Estimate
        ``trajectory_length``, and for each distance, ``euclidean``, ``loss`` and ``zero_one``:
        ``ph_dimension``, ``e1`` (the length of a minimum spanning tree), ``e1_by_diameter`` and
        ``positive_magnitude``. NaN with the reason where a distance cannot be told.

    References
    ----------
    Birdal, T. et al. (2021), NeurIPS; Dupuis, B. et al. (2023), ICML; Andreeva, R. et al. (2024),
    NeurIPS; Tan, C. B. et al. (2024), NeurIPS, on what confounds them.
    """
    from geomprobe.topology import loss_pseudometric, zero_one_pseudometric
    from geomprobe.topology.metrics import euclidean_distances

    losses, right = path.sample_losses, path.sample_correct
    distances: dict[str, Callable[[], Array]] = {
        "euclidean": lambda: euclidean_distances(path.points),
        "loss": lambda: loss_pseudometric(_there(losses, "losses of samples")),
        "zero_one": lambda: zero_one_pseudometric(_there(right, "classifications of samples")),
    }
    found = {"trajectory_length": _length(path)}
    for metric, compute in distances.items():
        try:
            of_metric = _of_distances(compute(), n_train, seed)
        except ValueError as error:
            names = ("ph_dimension", "e1", "e1_by_diameter", "positive_magnitude")
            of_metric = dict.fromkeys(names, Estimate.undefined(str(error)))
        found |= {f"{name}_{metric}": estimate for name, estimate in of_metric.items()}
    return found


def _there(values: Array | None, what: str) -> Array:
    if values is None:
        raise ValueError(_MISSING.format(what))
    return values


def _length(path: Trajectory) -> Estimate:
    steps = path.meta.get("step_norms")
    if steps is not None:
        told = [step for step in steps[1:] if step is not None]
        note = "" if len(told) == len(path) - 1 else "steps through NaN or infinity left out"
        return Estimate(math.fsum(told), exact=True, n=len(path), note=note)
    steps = np.linalg.norm(np.diff(path.points.astype(np.float64), axis=0), axis=1)
    return Estimate(float(steps.sum()), n=len(path), method="between the points that were kept")


def _of_distances(distances: Array, n_train: int, seed: int) -> dict[str, Estimate]:
    from geomprobe.topology import magnitude, minimum_spanning_tree, ph_dimension

    n, diameter = len(distances), float(distances.max())
    if not np.isfinite(diameter):
        raise ValueError("iterates have NaN or infinity")
    if diameter == 0:
        raise ValueError("all iterates are equal under this distance")
    length = minimum_spanning_tree(distances).weighted_sum()
    return {
        "ph_dimension": ph_dimension(
            distances,
            metric="precomputed",
            n_sizes=_SIZES,
            n_subsets=_SUBSETS,
            replicates=_REPLICATES,
            random_state=seed,
            progress=False,
        ).estimate,
        "e1": Estimate(length, exact=True, n=n),
        "e1_by_diameter": Estimate(length / diameter, exact=True, n=n),
        "positive_magnitude": magnitude(
            distances, math.sqrt(n_train), metric="precomputed", positive=True
        ),
    }
