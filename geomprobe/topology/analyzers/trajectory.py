"""TrajectoryTopology: the shape of the path that training takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from geomprobe.clouds import Trajectory
from geomprobe.evidence import Evidence
from geomprobe.findings import Estimate, Finding
from geomprobe.storage import Array
from geomprobe.topology.graphs import distance_matrix
from geomprobe.topology.magnitude import magnitude
from geomprobe.topology.mst import minimum_spanning_tree
from geomprobe.topology.ph_dimension import ph_dimension

_FEWEST = 40


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
        Of the subsets that PH dimension is computed from.

    Notes
    -----
    The distances are Euclidean. For those by the losses or predictions of each sample, see
    :func:`~geomprobe.topology.loss_pseudometric` and
    :func:`~geomprobe.topology.zero_one_pseudometric`, with
    :func:`~geomprobe.topology.ph_dimension` and :func:`~geomprobe.topology.magnitude`. Positive
    magnitude is taken at the square root of the number of training samples, where that is known.
    """

    name: ClassVar[str] = "trajectory_topology"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory"})
    by_default: ClassVar[bool] = False
    readings: ClassVar[Mapping[str, str]] = {
        "ph_dimension": "How the path fills space: 1 for a smooth curve, more for a jittery one; "
        "it follows the learning rate and the batch size, and no record of predicting "
        "generalization beyond them is known.",
        "e_alpha": "Sum of the powers of the edges of the minimum spanning tree of the iterates; "
        "with alpha 1 it is hardly ever more than the path length, and says what that says.",
        "path_length": "Distance travelled from iterate to iterate: about learning rate times the "
        "sum of the gradient norms.",
        "tree_to_path": "Spanning tree over path length: near 1 the tree is the path itself, and "
        "adds nothing to it; below, the path comes back near to where it was.",
        "tree_to_diameter": "Spanning tree over the largest distance of two iterates: free of "
        "scale, 1 for a straight path, and larger the more the path winds.",
        "positive_magnitude": "Effective number of iterates told apart at the scale of the square "
        "root of the number of training samples; their number where all lie far apart.",
        "unit_magnitude": "The same after dividing all distances by the diameter: effective number "
        "of iterates, free of scale.",
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
        path, notes = self._path(trajectory)
        if len(path) < _FEWEST:
            reason = f"{len(path)} finite iterates are too few: at least {_FEWEST} are needed"
            yield Finding(self.name, "model", notes=tuple(notes), failed=reason)
            return
        if (path == path[0]).all():
            yield Finding(self.name, "model", notes=tuple(notes), failed="no iterate has moved")
            return
        distances = distance_matrix(path, "euclidean")
        dimension = ph_dimension(
            distances, metric="precomputed", alpha=self.alpha, random_state=self.seed
        )
        tree, n = minimum_spanning_tree(distances), len(path)
        length = float(np.diagonal(distances, 1).sum())
        diameter = float(distances.max())
        projected = trajectory.meta.get("projection") is not None

        def scalar(value: float, method: str) -> Estimate:
            note = "of the projected path" if projected else ""
            return Estimate(value, exact=not projected, n=n, method=method, note=note)

        scalars = {
            "ph_dimension": dimension.estimate,
            "e_alpha": scalar(
                tree.weighted_sum(self.alpha), f"spanning tree, alpha={self.alpha:g}"
            ),
            "path_length": scalar(length, "sum of the distances between iterates"),
            "tree_to_path": scalar(tree.weighted_sum() / length, "ratio of lengths"),
            "tree_to_diameter": scalar(tree.weighted_sum() / diameter, "ratio of lengths"),
            "unit_magnitude": magnitude(
                distances, 1 / diameter, metric="precomputed", positive=True
            ),
        }
        if evidence.n_train is None:
            notes.append("No positive magnitude: the number of training samples is not known.")
        else:
            scale = float(np.sqrt(evidence.n_train))
            scalars["positive_magnitude"] = magnitude(
                distances, scale, metric="precomputed", positive=True
            )
        arrays = {"subset_sizes": dimension.sizes.astype(float), "subset_sums": dimension.sums}
        yield Finding(self.name, "model", scalars, arrays, tuple(notes))

    def _path(self, trajectory: Trajectory) -> tuple[Array, list[str]]:
        """Return the last finite iterates, and what was left out."""
        notes = []
        path = np.asarray(trajectory.points[-self.points :], dtype=np.float64)
        if len(trajectory) > len(path):
            notes.append(f"The last {len(path)} of {len(trajectory)} iterates.")
        finite = np.isfinite(path).all(axis=1)
        if not finite.all():
            notes.append(f"{int((~finite).sum())} iterates that are not finite are left out.")
        if (stride := trajectory.meta.get("stride", 1)) and stride > 1:
            notes.append(f"Every {stride}th iterate only: the path is longer than what is seen.")
        return path[finite], notes
