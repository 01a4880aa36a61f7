"""RepresentationSimilarity: how alike the layers are in what they make of the same samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from geomprobe.clouds import PointCloud
from geomprobe.evidence import Evidence
from geomprobe.findings import Estimate, Finding
from geomprobe.points import as_points
from geomprobe.representation.similarity import cka_matrix, procrustes
from geomprobe.resampling import delete_half_stderr
from geomprobe.storage import Array

_LEAST = 8


@dataclass(frozen=True)
class RepresentationSimilarity:
    """Linear CKA and Procrustes distance of layers, on the samples that all of them saw.

    Parameters
    ----------
    max_points : int
        Of more common samples, this many are drawn at random.

    Notes
    -----
    Yields one finding a layer, in the order of the layers: ``cka_previous`` and ``cka_last``,
    debiased, with the layers before it and at the end, and ``procrustes_previous``. Arrays: ``cka``
    and ``cka_stderr``, with each of the layers that have a finding that did not fail, in their
    order. O(L^2 n^2 + L n^3) for L layers.
    """

    max_points: int = 500

    name: ClassVar[str] = "representation_similarity"
    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    by_default: ClassVar[bool] = False
    caveat: ClassVar[str] = (
        "Whether two layers do the same: alignment is up to rotation, and directions of large "
        "variance decide it."
    )
    readings: ClassVar[Mapping[str, str]] = {
        "cka_previous": "Alignment with the layer before: 1 where only a rotation, a scale and a "
        "shift lie between, about 0 for nothing in common; a few directions of large variance "
        "decide it.",
        "cka_last": "Alignment with the last layer: how much of the final representation is there "
        "already, as far as directions of large variance tell.",
        "procrustes_previous": "Distance from the layer before that no rotation, scale and shift "
        "make up for, 0 to 1.41: it hears of many small directions too, and is too small where "
        "there are few more samples than directions.",
    }

    def __post_init__(self) -> None:
        if self.max_points < _LEAST:
            raise ValueError(f"max_points must be at least {_LEAST}, got {self.max_points}")

    def __call__(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield one finding for each cloud; one that cannot be compared fails alone."""
        usable: dict[str, tuple[Array, Array]] = {}
        for layer, cloud in evidence.clouds.items():
            try:
                usable[layer] = _one_point_a_sample(cloud)
            except ValueError as error:
                yield Finding(self.name, layer, failed=str(error))
        if len(usable) < 2:
            reason = f"there are {len(usable)} layers to compare, and it takes two"
            yield Finding(self.name, "model", failed=reason)
            return
        ids = next(iter(usable.values()))[0]
        for own, _ in usable.values():
            ids = np.intersect1d(ids, own)
        if len(ids) < _LEAST:
            reason = f"the layers have {len(ids)} samples in common, and {_LEAST} are needed"
            yield Finding(self.name, "model", failed=reason)
            return
        note = f"On the {len(ids)} samples that all {len(usable)} layers saw."
        if len(ids) > self.max_points:
            note = f"On {self.max_points} of the {len(ids)} samples that all layers saw."
            ids = np.random.default_rng(evidence.seed).choice(ids, self.max_points, replace=False)
        ids = np.sort(ids)
        aligned = [points[np.searchsorted(own, ids)] for own, points in usable.values()]
        yield from self._compared(list(usable), aligned, evidence.seed, note)

    def _compared(
        self, layers: list[str], aligned: list[Array], seed: int, note: str
    ) -> Iterator[Finding]:
        def matrix(rows: Array) -> Array:
            some = [points[rows] for points in aligned]
            try:
                return cka_matrix(some, some)
            except ValueError:  # A layer that nearly always says the same is constant on a half.
                return np.full((len(some), len(some)), np.nan)

        n, last = len(aligned[0]), len(layers) - 1
        values, errors = matrix(np.arange(n)), delete_half_stderr(matrix, n, seed=seed)

        def estimate(one: int, other: int) -> Estimate:
            value, method = values[one, other], "debiased linear CKA; delete-half jackknife"
            if np.isnan(value):
                reason = "the samples in common do not tell a layer from a constant one"
                return Estimate.undefined(reason, n=n, method=method)
            return Estimate(value, errors[one, other], n=n, method=method)

        for index, layer in enumerate(layers):
            scalars = {}
            if index > 0:
                scalars["cka_previous"] = estimate(index, index - 1)
                scalars["procrustes_previous"] = _procrustes(
                    aligned[index - 1], aligned[index], seed
                )
            if index < last:
                scalars["cka_last"] = estimate(index, last)
            arrays = {"cka": values[index], "cka_stderr": errors[index]}
            yield Finding(self.name, layer, scalars, arrays, (note,))


def _procrustes(before: Array, layer: Array, seed: int) -> Estimate:
    try:
        return procrustes(before, layer, seed=seed)
    except ValueError as error:  # Constant on the samples in common.
        return Estimate.undefined(str(error), n=len(layer), method="Procrustes distance")


def _one_point_a_sample(cloud: PointCloud) -> tuple[Array, Array]:
    """Return the ids of the samples in ascending order, and their points in float64."""
    finite, _ = cloud.finite()
    if finite.sample_ids is None:
        raise ValueError("the points have no sample ids, which tell the same sample in two layers")
    ids, first = np.unique(finite.sample_ids, return_index=True)
    if len(ids) < len(finite):
        raise ValueError("there are several points a sample; pool them, so that each has one")
    points: Array = as_points(finite.points)[first]
    return ids, points
