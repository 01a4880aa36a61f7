"""RepresentationDimension: how many dimensions each layer's activations fill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from geomprobe.clouds import PointCloud
from geomprobe.evidence import Evidence
from geomprobe.findings import Estimate, Finding
from geomprobe.representation.gride import gride
from geomprobe.representation.nearest_neighbour_likelihood import levina_bickel
from geomprobe.representation.neural_collapse import neural_collapse
from geomprobe.representation.spectrum import alpha_req, participation_ratio, rank_me
from geomprobe.representation.two_nn import two_nn
from geomprobe.storage import Array


@dataclass(frozen=True)
class RepresentationDimension:
    """Intrinsic and linear dimension of every activation cloud, and how far its classes collapse.

    Parameters
    ----------
    max_points : int
        Larger clouds are thinned to a uniform sample of this size.

    Notes
    -----
    Yields one finding a layer: ``two_nn``, ``levina_bickel``, ``participation_ratio``, ``rank_me``,
    ``alpha_req``, and, where the cloud has labels, ``within_class``, ``equinorm``,
    ``equiangularity`` and ``maximal_angle`` of neural collapse. Arrays: ``scales``, ``gride`` and
    ``gride_stderr``.
    """

    max_points: int = 2000

    name: ClassVar[str] = "representation_dimension"
    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "How much a layer knows of the task: these are dimensions of the points that were "
        "seen, and intrinsic ones above ten or so are too small."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "points_excluded": "Points left out because they hold NaN or infinity: anything above 0 "
        "means that the layer overflows or divides by zero.",
        "two_nn": "Intrinsic dimension at the scale of nearest neighbours: usually far below the "
        "width, too small above ten or so, and as large as the standard error says.",
        "levina_bickel": "Intrinsic dimension at the scale of twenty neighbours: less noisy than "
        "that of two, and more biased where the sheet is curved or the dimension high.",
        "participation_ratio": "How many directions of equal variance would have this spectrum: a "
        "few large ones rule it, and a curved sheet has more than its intrinsic dimension.",
        "rank_me": "Effective rank of the activations as they are, not centred: bounded by the "
        "number of points, and meant for comparison within one way of training.",
        "alpha_req": "Power by which the variances fall from rank to rank: the smaller, the more "
        "directions are used; near 1 in good representations of one paper, and the window of ranks "
        "decides.",
        "within_class": "Variance within classes over that between them: it falls with training "
        "time on the training set, and need not fall on other samples.",
        "equinorm": "How differently far the class means lie from their centre; 0 on a simplex.",
        "equiangularity": "How different the angles between class means are; 0 on a simplex.",
        "maximal_angle": "How far the angles between class means are from the largest that all "
        "could have; 0 on a simplex.",
    }

    def __post_init__(self) -> None:
        if self.max_points < 20:
            raise ValueError(f"max_points must be at least 20, got {self.max_points}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding for each cloud; what fails in one layer does not touch the others."""
        for layer, cloud in evidence.clouds.items():
            try:
                yield self._examine(layer, cloud, evidence.seed)
            except (ValueError, MemoryError) as error:
                yield Finding(self.name, layer, failed=f"{type(error).__name__}: {error}")

    def _examine(self, layer: str, cloud: PointCloud, seed: int) -> Finding:
        cloud, excluded = cloud.finite()
        scalars: dict[str, Estimate] = {}
        notes = []
        if excluded:
            scalars["points_excluded"] = Estimate(excluded, exact=True, method="counted")
            notes.append(f"{excluded} points that are not finite are left out.")
        if len(cloud) > self.max_points:
            notes.append(f"A uniform sample of {self.max_points} of {len(cloud)} points.")
            rows = np.random.default_rng(seed).choice(len(cloud), self.max_points, replace=False)
            cloud = cloud.take(np.sort(rows))
        points = cloud.points.astype(np.float64)
        scalars["two_nn"] = two_nn(points, seed=seed)
        scalars["levina_bickel"] = _levina_bickel(points, seed)
        scalars["participation_ratio"] = participation_ratio(points, seed=seed)
        scalars["rank_me"] = rank_me(points, seed=seed)
        scalars["alpha_req"] = alpha_req(points, seed=seed)
        if duplicates := len(points) - (scalars["two_nn"].n or 0):
            notes.append(f"{duplicates} duplicates are left out of the intrinsic dimension.")
        if cloud.labels is not None:
            try:
                collapse = neural_collapse(points, cloud.labels, seed=seed)
            except ValueError as error:
                notes.append(f"No neural collapse: {error}.")
            else:
                found = {one.name: getattr(collapse, one.name) for one in fields(collapse)}
                scalars |= {name: one for name, one in found.items() if name in self.readings}
        scan = gride(points)
        arrays = {"scales": scan.scales, "gride": scan.dimensions, "gride_stderr": scan.stderrs}
        return Finding(self.name, layer, scalars, arrays, tuple(notes))


def _levina_bickel(points: Array, seed: int) -> Estimate:
    try:
        return levina_bickel(points, seed=seed)
    except ValueError as error:
        return Estimate.undefined(str(error), n=len(points), method="Levina-Bickel")
