"""LayerTopology: how the topology of each class changes from layer to layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import numpy as np

from geomprobe.clouds import PointCloud
from geomprobe.evidence import Evidence
from geomprobe.findings import Estimate, Finding
from geomprobe.storage import Array
from geomprobe.topology.diagrams import Diagrams
from geomprobe.topology.geodesics import geodesic_distances
from geomprobe.topology.rips import rips_persistence
from geomprobe.topology.summaries import betti_curve, total_persistence

_NAMES = ("betti_0", "betti_1", "h1_total_persistence")
_LONGEST_CURVE = 64
_ORDERS = 10_000  # Random ones, where all are more.
_ALL_ORDERS = 7  # Of up to this many layers, all 5,040 orders are tried.


@dataclass(frozen=True)
class LayerTopology:
    """Betti numbers of every class in every layer, and their trend with depth.

    Parameters
    ----------
    n_neighbors : int
        Neighbours that each point is joined with.
    scale : float
        Steps of the graph up to which points are connected, for Betti numbers.
    max_points : int
        Larger classes are thinned to a uniform sample of this size.
    max_classes : int
        Of more classes, the largest.
    replicates : int
        Halves of every class that standard errors rest on.

    Notes
    -----
    By the recipe of Naitzat, Zhitnikov and Lim (2020): duplicates are removed from each class, and
    Rips homology is taken of the graph distance that counts steps between nearest neighbours. The
    paper chose 2.5 steps and 14 to 35 neighbours so that the Betti numbers of its inputs, which it
    knew, came out right; for other data no such choice is known, and numbers depend on it.

    Yields one finding a layer, with means over its classes: ``betti_0``, ``betti_1`` and
    ``h1_total_persistence``, in steps. Total persistence of H0 is left out: every bar of H0 that
    dies has length 1. Arrays: ``classes``, ``betti_0_of_class``, ``betti_1_of_class``, ``steps``,
    ``betti_curve_0``, ``betti_curve_1``. Then one of the model, with Spearman's rank correlation
    of each number with depth, and its p-value over orders of the layers.

    Without labels, or with labels that are no classes, all points are taken for one class. Classes
    of fewer than 4 (n_neighbors + 1) points are left out. A class that has so few distinct points
    that all are neighbours is one component without loops. Standard errors are those of a sample of
    as many points, by the delete-half jackknife within each class.
    """

    name: ClassVar[str] = "layer_topology"
    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "Anything about data outside these classes, nor anything absolute: the numbers hold "
        "for this number of neighbours."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "betti_0": "Pieces that a class falls into, on average over classes: 1 where it is in one "
        "piece, as trained networks tend to make it; it depends on the number of neighbours.",
        "betti_1": "Loops of a class that are wider than the scale, on average over classes: 0 "
        "where it has been straightened out.",
        "h1_total_persistence": "Sum of the widths of all loops of a class, in steps between "
        "neighbours: free of the layer's unit, and larger for more points.",
        **{
            f"{name}_trend": f"Rank correlation of {what} with depth: -1 where it falls from layer "
            "to layer, 1 where it grows, 0 without a trend."
            for name, what in zip(
                _NAMES, ("the number of pieces", "the number of loops", "loop width"), strict=True
            )
        },
        **{
            f"{name}_trend_p": "Share of all orders of the layers with a trend as strong: with few "
            "layers it cannot be small, and layers that follow each other are not independent."
            for name in _NAMES
        },
    }

    n_neighbors: int = 14
    scale: float = 2.5
    max_points: int = 200
    max_classes: int = 10
    replicates: int = 8

    def __post_init__(self) -> None:
        least = {"n_neighbors": 1, "scale": 1, "max_classes": 1, "replicates": 2}
        least["max_points"] = self._fewest
        for name, smallest in least.items():
            if not getattr(self, name) >= smallest:
                raise ValueError(f"{name} must be at least {smallest}, got {getattr(self, name)}")

    @property
    def _fewest(self) -> int:
        return 4 * (self.n_neighbors + 1)

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding for each layer, and one of the model."""
        layers, values, halves = [], [], []
        for layer, cloud in evidence.clouds.items():
            try:
                finding, of_halves = self._examine(layer, cloud, evidence.seed)
            except (ValueError, MemoryError) as error:
                yield Finding(self.name, layer, failed=f"{type(error).__name__}: {error}")
                continue
            layers.append(layer)
            values.append([finding.scalars[name].value for name in _NAMES])
            halves.append(of_halves)
            yield finding
        if not layers:
            yield Finding(self.name, "model", failed="no layer could be used")
            return
        scalars: dict[str, Estimate] = {}
        for i, name in enumerate(_NAMES):
            scalars[f"{name}_trend"], scalars[f"{name}_trend_p"] = _trend(
                np.array(values)[:, i], np.array(halves)[:, :, i].T, evidence.seed
            )
        arrays = dict(zip(_NAMES, np.array(values).T, strict=True))
        notes = (f"In the order of depth: {', '.join(layers)}.",)
        yield Finding(self.name, "model", scalars, arrays, notes)

    def _examine(self, layer: str, cloud: PointCloud, seed: int) -> tuple[Finding, Array]:
        """Return the finding of a layer, and its numbers by each half, (replicates, numbers)."""
        cloud, excluded = cloud.finite()
        notes = [f"{excluded} points that are not finite are left out."] if excluded else []
        members, note = self._members(cloud)
        if note:
            notes.append(note)
        thinned = sum(len(rows) > self.max_points for rows in members.values())
        if thinned:
            notes.append(f"A uniform sample of {self.max_points} points of {thinned} classes.")
        diagrams, halves, used = [], [], 0
        for index, rows in enumerate(members.values()):
            # The same samples in every layer.
            points = _sample(cloud.points[rows], self.max_points, (seed, index, 0))
            used += len(points)
            diagrams.append(self._diagrams(points))
            generator = np.random.default_rng((seed, index, 1))
            halves.append(
                [
                    self._numbers(self._diagrams(_half(points, generator)))
                    for _ in range(self.replicates)
                ]
            )
        numbers = np.array([self._numbers(one) for one in diagrams])
        by_half = np.mean(halves, axis=0)
        errors = by_half.std(axis=0, ddof=1)
        method = (
            f"Rips homology of steps between {self.n_neighbors} neighbours; error by delete-half "
            f"jackknife, {self.replicates} halves"
        )
        scalars = {
            name: Estimate(value, error, n=used, method=method)
            for name, value, error in zip(_NAMES, numbers.mean(axis=0), errors, strict=True)
        }
        last = max(float(one.finite(dim).max(initial=1.0)) for one in diagrams for dim in (0, 1))
        steps = np.arange(min(int(last), _LONGEST_CURVE) + 1.0)
        arrays = {
            "classes": np.array(list(members)),
            "betti_0_of_class": numbers[:, 0],
            "betti_1_of_class": numbers[:, 1],
            "steps": steps,
        }
        for dim in (0, 1):
            arrays[f"betti_curve_{dim}"] = np.mean(
                [betti_curve(one[dim], steps) for one in diagrams], axis=0
            )
        return Finding(self.name, layer, scalars, arrays, tuple(notes)), by_half

    def _members(self, cloud: PointCloud) -> tuple[dict[float, Array], str]:
        """Return the rows of each class that can be used, and what a reader must know of it."""
        labels, note = cloud.labels, ""
        if labels is None or (labels != np.round(labels)).any():
            note = (
                "There are no class numbers beside the inputs, so that all points are taken for "
                "one class: pieces and loops are those of the layer as a whole. Give the data as "
                "(inputs, class numbers) for those of each class."
            )
            labels = np.zeros(len(cloud))
        found, sizes = np.unique(labels, return_counts=True)
        largest = np.argsort(-sizes, kind="stable")
        enough = [i for i in largest if sizes[i] >= self._fewest][: self.max_classes]
        if not enough:
            raise ValueError(
                f"no class has the {self._fewest} points that {self.n_neighbors} neighbours ask "
                f"for: the largest of {len(found)} has {int(sizes.max(initial=0))}. Keep more "
                f"points, or take fewer neighbours.{f' {note}' if note else ''}"
            )
        if len(enough) < len(found):
            note = (
                f"{len(enough)} of {len(found)} classes, the largest; those of fewer than "
                f"{self._fewest} points cannot be used."
            )
        return {found[i]: np.flatnonzero(labels == found[i]) for i in sorted(enough)}, note

    def _diagrams(self, points: Array) -> Diagrams:
        distinct = np.unique(points, axis=0)
        if len(distinct) <= self.n_neighbors + 1:
            # All are neighbours: a simplex, or a point.
            deaths = np.append(np.ones(len(distinct) - 1), np.inf)
            bars = np.stack([np.zeros(len(deaths)), deaths], axis=1)
            return Diagrams((bars, np.empty((0, 2))))
        distances = geodesic_distances(distinct, self.n_neighbors)
        return rips_persistence(distances, 1, metric="precomputed")

    def _numbers(self, diagrams: Diagrams) -> Array:
        bettis = [float(betti_curve(diagrams[dim], [self.scale])[0]) for dim in (0, 1)]
        return np.array([*bettis, total_persistence(diagrams[1])])


def _sample(points: Array, most: int, seed: tuple[int, ...]) -> Array:
    if len(points) > most:
        rows = np.random.default_rng(seed).choice(len(points), most, replace=False)
        points = points[np.sort(rows)]
    return points.astype(np.float64)


def _half(points: Array, generator: np.random.Generator) -> Array:
    return points[generator.choice(len(points), len(points) // 2, replace=False)]


def _trend(values: Array, halves: Array, seed: int) -> tuple[Estimate, Estimate]:
    """Return Spearman's rank correlation with depth, and its two-sided p-value over orders.

    Parameters
    ----------
    values : array of shape (L,)
        One number a layer.
    halves : array of shape (R, L)
        The same by each of R halves.
    """
    n = len(values)
    method = f"Spearman's rank correlation over {n} layers"
    why = ""
    if n < 3:
        why = f"a trend takes three layers, and there are {n}"
    elif (values == values[0]).all():
        why = "it is the same in every layer"
    if why:
        undefined = Estimate.undefined(why, n=n, method=method)
        return undefined, undefined
    depth = np.arange(n) - (n - 1) / 2
    correlation = _rank_correlations(depth, values)
    by_half = [float(_rank_correlations(depth, half)) for half in halves if np.ptp(half)]
    error = float(np.std(by_half, ddof=1)) if len(by_half) > 1 else math.nan
    trend = Estimate(float(correlation), error, n=n, method=f"{method}; error by halves")

    if n <= _ALL_ORDERS:
        orders = np.array(list(permutations(range(n))))
    else:
        generator = np.random.default_rng(seed)
        orders = generator.permuted(np.tile(np.arange(n), (_ORDERS, 1)), axis=1)
    as_strong = np.abs(_rank_correlations(depth[orders], values)) >= abs(correlation) - 1e-9
    if n <= _ALL_ORDERS:
        least = 2 / math.factorial(n)
        note = f"{n} layers cannot give less than {least:.2g}" if n < 5 else ""
        p = Estimate(
            as_strong.mean(), exact=True, n=n, method=f"all {len(orders)} orders", note=note
        )
    else:
        # The order of the layers is one of those.
        share = (as_strong.sum() + 1) / (_ORDERS + 1)
        error = math.sqrt(share * (1 - share) / _ORDERS)
        p = Estimate(share, error, n=n, method=f"{_ORDERS} random orders")
    return trend, p


def _rank_correlations(depths: Array, values: Array) -> Array:
    """Return the correlations of centred depths, (..., L), with the ranks of values, (L,)."""
    from scipy.stats import rankdata

    ranks = rankdata(values)
    ranks -= ranks.mean()
    correlations: Array = depths @ ranks / np.sqrt((ranks @ ranks) * (depths**2).sum(axis=-1))
    return correlations
