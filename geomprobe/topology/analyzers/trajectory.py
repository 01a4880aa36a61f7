"""TrajectoryTopology: the shape of the path that training takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from geomprobe.clouds import Trajectory
from geomprobe.evidence import Evidence
from geomprobe.findings import Estimate, Finding
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array
from geomprobe.topology.magnitude import magnitude
from geomprobe.topology.metrics import (
    euclidean_distances,
    loss_pseudometric,
    zero_one_pseudometric,
)
from geomprobe.topology.mst import minimum_spanning_tree
from geomprobe.topology.ph_dimension import ph_dimension

_FEWEST = 40


#: What is said of each scalar, under any distance; see ``_SPACES`` for their prefixes.
_READINGS = {
    "ph_dimension": "How the path fills space: 1 for a smooth curve, more for a jittery one; it "
    "follows the learning rate and the batch size, and no record of predicting generalization "
    "beyond them is known.",
    "e_alpha": "Sum of the powers of the edges of the minimum spanning tree of the iterates; with "
    "alpha 1 it is hardly ever more than the path length, and says what that says.",
    "path_length": "Distance travelled from iterate to iterate.",
    "tree_to_path": "Spanning tree over path length: near 1 the tree is the path itself, and adds "
    "nothing to it; below, the path comes back near to where it was.",
    "tree_to_diameter": "Spanning tree over the largest distance of two iterates: free of scale, 1 "
    "for a straight path, and larger the more the path winds.",
    "positive_magnitude": "Effective number of iterates told apart at the scale of the square root "
    "of the number of training samples; their number where all lie far apart.",
    "unit_magnitude": "The same after dividing all distances by the diameter: effective number of "
    "iterates, free of scale.",
}


@dataclass(frozen=True)
class _Space:
    """A distance of iterates: what it is called, what it is taken from, and how."""

    prefix: str
    name: str
    field: str
    distances: Callable[[Array], Array]
    missing: str = ""


_SPACES = (
    _Space("", "Euclidean", "points", euclidean_distances),
    _Space(
        "loss_",
        "loss-based",
        "sample_losses",
        loss_pseudometric,
        "the losses of samples were not recorded (samples of TrajectoryRecorder, "
        "trajectory_samples of Monitor)",
    ),
    _Space(
        "zero_one_",
        "0-1",
        "sample_correct",
        zero_one_pseudometric,
        "it was not recorded which samples are classified rightly, which takes outputs of shape "
        "(n, classes) and class numbers as targets",
    ),
)


@dataclass(frozen=True)
class TrajectoryTopology:
    """PH dimension, spanning tree and magnitude of the last iterates, beside the plain path length.

    Parameters
    ----------
    points : int
        How many iterates, the last ones.
    alpha : float
        Power of the lengths of the edges.
    seed : int
        Of the subsets of iterates and of samples that errors are computed from.

    Notes
    -----
    All numbers are given under each distance that the trajectory tells: Euclidean; with ``loss_``
    before the name, the mean absolute difference of the losses of each sample (Dupuis et al. 2023);
    and with ``zero_one_``, the share of the samples that one iterate classifies rightly and the
    other does not. The last two are of the samples recorded, and their standard errors of drawing
    those. Positive magnitude is taken at the square root of the number of training samples, where
    that is known.
    """

    name: ClassVar[str] = "trajectory_topology"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "How the model generalizes: the numbers follow the learning rate, the batch size and "
        "the plain length of the path, which stands beside them."
    )
    readings: ClassVar[Mapping[str, str]] = {
        **_READINGS,
        "path_length": "Distance travelled from iterate to iterate: about learning rate times the "
        "sum of the gradient norms.",
        **{
            f"loss_{name}": f"By the mean absolute difference of the losses of samples. {reading}"
            for name, reading in _READINGS.items()
        },
        **{
            f"zero_one_{name}": f"By the share of samples of which one is wrong. {reading}"
            for name, reading in _READINGS.items()
        },
    }

    points: int = 1000
    alpha: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points < _FEWEST:
            raise ValueError(f"points must be at least {_FEWEST}, got {self.points}")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be positive, got {self.alpha}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding about the model."""
        trajectory = evidence.trajectory
        assert trajectory is not None
        rows, notes = self._rows(trajectory)
        path = np.asarray(trajectory.points[rows], dtype=np.float64)
        reason = None
        if len(path) < _FEWEST:
            reason = f"{len(path)} finite iterates are too few: at least {_FEWEST} are needed"
        elif (path == path[0]).all():
            reason = "no iterate has moved"
        if reason is not None:
            yield Finding(self.name, "model", notes=tuple(notes), failed=reason)
            return
        if evidence.n_train is None:
            notes.append("No positive magnitude: the number of training samples is not known.")
        scalars: dict[str, Estimate] = {}
        arrays: dict[str, Array] = {}
        for space in _SPACES:
            values = getattr(trajectory, space.field)
            if values is None:
                notes.append(f"No {space.name} distances: {space.missing}.")
                continue
            values = path if space.field == "points" else _known(values[rows], notes)
            if len(values) < _FEWEST or not values.shape[1]:
                notes.append(f"No {space.name} numbers: too few losses are finite.")
                continue
            distances = space.distances(values)
            if not distances.any():
                notes.append(f"No {space.name} numbers: all iterates do the same to the samples.")
                continue
            dimension = ph_dimension(
                distances, metric="precomputed", alpha=self.alpha, random_state=self.seed
            )
            found, note = self._numbers(distances, evidence.n_train), ""
            if space.field != "points":
                found = self._with_errors(found, values, space, evidence.n_train)
                note = f"by {values.shape[1]} samples"
            elif trajectory.meta.get("projection") is not None:
                found = {
                    name: replace(one, exact=False, stderr=np.nan) for name, one in found.items()
                }
                note = "of the projected path"
            for name, one in {"ph_dimension": dimension.estimate, **found}.items():
                notes_of_one = "; ".join(filter(None, (one.note, note)))
                scalars[space.prefix + name] = replace(one, note=notes_of_one)
            arrays[f"{space.prefix}subset_sizes"] = dimension.sizes.astype(float)
            arrays[f"{space.prefix}subset_sums"] = dimension.sums
        yield Finding(self.name, "model", scalars, arrays, tuple(notes))

    def _numbers(self, distances: Array, n_train: int | None) -> dict[str, Estimate]:
        """Return all numbers but the dimension."""
        tree, n = minimum_spanning_tree(distances), len(distances)
        length, diameter = float(np.diagonal(distances, 1).sum()), float(distances.max())
        whole = tree.weighted_sum()
        ratio = "ratio of lengths"
        numbers = {
            "e_alpha": (tree.weighted_sum(self.alpha), f"spanning tree, alpha={self.alpha:g}"),
            "path_length": (length, "sum of the distances between iterates"),
            "tree_to_path": (whole / length, ratio),
            "tree_to_diameter": (whole / diameter, ratio),
        }
        found = {
            name: Estimate(value, exact=True, n=n, method=method)
            for name, (value, method) in numbers.items()
        }
        scales = {"unit_magnitude": 1 / diameter}
        if n_train is not None:
            scales["positive_magnitude"] = float(np.sqrt(n_train))
        for name, scale in scales.items():
            found[name] = magnitude(distances, scale, metric="precomputed", positive=True)
        return found

    def _with_errors(
        self, found: dict[str, Estimate], values: Array, space: _Space, n_train: int | None
    ) -> dict[str, Estimate]:
        """Return the numbers with the standard error of having drawn these samples."""

        def numbers(columns: Array) -> Array:
            distances = space.distances(values[:, columns])
            if not distances.any():
                return np.full(len(found), np.nan)
            return np.array([one.value for one in self._numbers(distances, n_train).values()])

        errors = delete_half_stderr(numbers, values.shape[1], replicates=8, seed=self.seed)
        return {
            name: replace(
                one,
                exact=False,
                stderr=float(np.hypot(one.stderr, error)),
            )
            for (name, one), error in zip(found.items(), errors, strict=True)
        }

    def _rows(self, trajectory: Trajectory) -> tuple[Array, list[str]]:
        """Return the last iterates at which all is finite, and what was left out."""
        notes = []
        n = len(trajectory)
        first = max(0, n - self.points)
        if first:
            notes.append(f"The last {n - first} of {n} iterates.")
        finite = np.isfinite(trajectory.points[first:]).all(axis=1)
        if not finite.all():
            notes.append(f"{int((~finite).sum())} iterates that are not finite are left out.")
        if (stride := trajectory.meta.get("stride", 1)) and stride > 1:
            notes.append(f"Every {stride}th iterate only: the path is longer than what is seen.")
        return first + np.flatnonzero(finite), notes


def _known(values: Array, notes: list[str]) -> Array:
    """Return what is known of samples, without iterates or else samples that are not finite."""
    if values.dtype == bool or np.isfinite(values).all():
        return values
    some = np.asarray(np.isfinite(values).any(axis=1))
    always = np.asarray(np.isfinite(values[some]).all(axis=0))
    notes.append(
        f"Loss-based distances leave out {int((~some).sum())} iterates without a finite loss, and "
        f"{int((~always).sum())} of {len(always)} samples without one at every other iterate."
    )
    known: Array = values[np.ix_(some, always)]
    return known
