"""PersistentHomology: the shape of each layer's activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from geomprobe.clouds import PointCloud
from geomprobe.evidence import Evidence
from geomprobe.findings import Estimate, Finding
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array
from geomprobe.topology.diagrams import Diagrams
from geomprobe.topology.graphs import require_metric
from geomprobe.topology.rips import rips_persistence
from geomprobe.topology.summaries import longest_bar, total_persistence
from geomprobe.topology.vectorizers import betti_curves, entropies, giotto_installed

_GRID = 128


def _readings(dim: int, hole: str) -> dict[str, str]:
    return {
        f"h{dim}_total_persistence": f"Sum of the lifetimes of all {hole}s: most of it is usually "
        "many short bars, that is sampling noise, and it grows with the scale of the layer.",
        f"h{dim}_entropy": f"How evenly the lifetimes of {hole}s are spread, in bits: low where a "
        "few dominate, high where there are many alike.",
        f"h{dim}_longest_bar": f"Lifetime of the most persistent {hole}, in the units of the "
        "activations: compare it with the rest of the diagram, not with another layer.",
        f"h{dim}_death_birth_ratio": f"Largest ratio of death to birth of a {hole}, free of scale: "
        "noise stays near 1, and values well above those of a random cloud mean a real hole.",
    }


@dataclass(frozen=True)
class PersistentHomology:
    """Vietoris-Rips persistent homology of every activation cloud.

    Parameters
    ----------
    max_dim : int
        Largest homology dimension.
    max_points : int
        Larger clouds are thinned to a uniform sample of this size.
    metric : str
        See :func:`~geomprobe.topology.rips_persistence`.
    replicates : int
        Halves of the cloud that standard errors rest on.
    bars : int
        Most bars of a dimension that a finding's diagram keeps, the longest first.

    Notes
    -----
    Yields one finding a layer, with these scalars for each dimension k: ``hk_total_persistence``,
    ``hk_entropy``, ``hk_longest_bar``, and for k > 0 ``hk_death_birth_ratio``, the largest ratio of
    death to birth (Bobrowski and Skraba 2023), which does not change with the scale of the
    activations. Standard errors are those of a sample of as many points, by the delete-half
    jackknife. Arrays: ``diagram_hk``, ``betti_grid`` and ``betti_hk``.
    """

    name: ClassVar[str] = "persistent_homology"
    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    caveat: ClassVar[str] = (
        "Neither that a layer is good nor that the model generalizes: it is the shape of these "
        "points, and lengths of layers with other scales are not comparable."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "points_excluded": "Points left out because they hold NaN or infinity: anything above 0 "
        "means that the layer overflows or divides by zero.",
        "h0_total_persistence": "Length of the minimum spanning tree of the points: larger where "
        "they spread more; it grows with the number of points and with the scale of the layer.",
        "h0_entropy": "How evenly long the edges of the minimum spanning tree are, in bits: its "
        "largest value, log2 of their number, means points as regular as a lattice.",
        "h0_longest_bar": "Widest gap between two groups of points: far above the other bars it "
        "means well-separated clusters, or one outlier.",
        **_readings(1, "loop"),
        **_readings(2, "void"),
        **_readings(3, "three-dimensional hole"),
    }

    max_dim: int = 1
    max_points: int = 400
    metric: str = "euclidean"
    replicates: int = 8
    bars: int = 400

    def __post_init__(self) -> None:
        least = {"max_dim": 0, "max_points": 4, "replicates": 2, "bars": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} must be at least {smallest}, got {getattr(self, name)}")
        require_metric(self.metric)

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding for each cloud; what fails in one layer does not touch the others."""
        for layer, cloud in evidence.clouds.items():
            try:
                yield self._examine(layer, cloud, evidence.seed)
            except (ValueError, MemoryError) as error:
                yield Finding(self.name, layer, failed=f"{type(error).__name__}: {error}")

    def _examine(self, layer: str, cloud: PointCloud, seed: int) -> Finding:
        cloud, excluded = cloud.finite()
        scalars, notes = {}, []
        if excluded:
            scalars["points_excluded"] = Estimate(excluded, exact=True, method="counted")
            notes.append(f"{excluded} points that are not finite are left out.")
        if len(cloud) < 4:
            reason = f"{len(cloud)} finite points are too few: persistent homology needs at least 4"
            return Finding(self.name, layer, scalars, notes=tuple(notes), failed=reason)
        if len(cloud) > self.max_points:
            notes.append(f"A uniform sample of {self.max_points} of {len(cloud)} points.")
            rows = np.random.default_rng(seed).choice(len(cloud), self.max_points, replace=False)
            cloud = cloud.take(np.sort(rows))

        points = cloud.points.astype(np.float64)
        diagrams = self._diagrams(points)
        numbers = self._numbers(diagrams)
        names = self._names()
        errors = delete_half_stderr(
            lambda rows: self._numbers_of(points[rows]),
            len(points),
            replicates=self.replicates,
            seed=seed,
            grows=np.array([name.endswith("total_persistence") for name in names]),
        )
        for name, value, error in zip(names, numbers, errors, strict=True):
            scalars[name] = self._estimate(name, value, error, len(points))

        top = max(float(np.max(dgm[np.isfinite(dgm)], initial=0.0)) for dgm in diagrams)
        grid = np.linspace(0.0, top or 1.0, _GRID)
        arrays = {"betti_grid": grid}
        for dim, curve in enumerate(betti_curves(diagrams, grid)):
            arrays[f"betti_h{dim}"] = curve
            longest = np.argsort(-diagrams.lifetimes(dim), kind="stable")
            arrays[f"diagram_h{dim}"] = diagrams[dim][longest[: self.bars]]
            if len(longest) > self.bars:
                left_out = len(longest) - self.bars
                notes.append(f"The diagram of H{dim} leaves out its {left_out} shortest bars.")
        served = "giotto-tda" if giotto_installed() else "geomprobe"
        notes.append(f"Diagrams by {diagrams.engine}; entropies and Betti curves by {served}.")
        return Finding(self.name, layer, scalars, arrays, tuple(notes))

    def _diagrams(self, points: Array) -> Diagrams:
        return rips_persistence(points, self.max_dim, metric=self.metric)

    def _numbers_of(self, points: Array) -> Array:
        """Return the numbers of some of the points; NaN where these are all one."""
        if (points == points[0]).all():
            return np.full(len(self._names()), np.nan)
        return self._numbers(self._diagrams(points))

    def _names(self) -> list[str]:
        stats = ("total_persistence", "entropy", "longest_bar", "death_birth_ratio")
        names = [f"h{dim}_{stat}" for dim in range(self.max_dim + 1) for stat in stats]
        return [name for name in names if name != "h0_death_birth_ratio"]  # births in H0 are 0

    def _numbers(self, diagrams: Diagrams) -> Array:
        numbers: list[float] = []
        for dim, entropy in enumerate(entropies(diagrams)):
            bars = diagrams.finite(dim)
            numbers += [total_persistence(bars), float(entropy), longest_bar(bars)]
            if dim:
                late = bars[bars[:, 0] > 0]
                numbers.append(float(np.max(late[:, 1] / late[:, 0])) if len(late) else np.nan)
        return np.array(numbers)

    def _estimate(self, name: str, value: float, error: float, n: int) -> Estimate:
        if np.isnan(value):
            return Estimate.undefined("no bar of positive length dies in this dimension", n=n)
        method = f"Rips diagram; error by delete-half jackknife, {self.replicates} halves"
        return Estimate(value, error, n=n, method=method)
