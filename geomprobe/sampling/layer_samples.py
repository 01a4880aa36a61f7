"""What a probe keeps: for each layer, in each phase, a bounded sample of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from geomprobe.clouds import CloudSet, PointCloud
from geomprobe.hooks.outputs import Unobservable
from geomprobe.hooks.points import Rows
from geomprobe.hooks.tap import Batch
from geomprobe.landmarks import farthest_points
from geomprobe.memory import require_memory
from geomprobe.sampling.projection import SparseProjection
from geomprobe.sampling.reservoir import BottomK, Offer, Reservoir
from geomprobe.storage import Array

SAMPLERS = ("uniform", "stratified", "farthest")

#: Of the projection of wide rows. With one, rows that differ in two entries would coincide with
#: probability 1/max_width; with two, only their distance is off then. More would cost more.
_NONZEROS = 2
#: Farthest points are chosen among so many times as many, drawn uniformly from the stream.
_CANDIDATES = 8


@dataclass(frozen=True)
class Sampling:
    """Which rows are kept, and in how many dimensions: see :class:`~geomprobe.Probe`."""

    points: int = 1000
    sampler: str = "uniform"
    every: int = 1
    max_width: int | None = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("points", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {SAMPLERS}, got {self.sampler!r}")
        if self.max_width is not None and (self.max_width < 2 or self.max_width % _NONZEROS):
            raise ValueError(f"max_width must be a positive even number, got {self.max_width}")

    @property
    def capacity(self) -> int:
        """Most rows that are held at a time."""
        return self.points * (_CANDIDATES if self.sampler == "farthest" else 1)


class LayerSample:
    """What one layer has given in one phase.

    Parameters
    ----------
    sampling : Sampling
    choice : BottomK
        Which rows are kept so far: none.
    width : int
        Length of its rows.
    facts : mapping
        What is said of the points in the cloud's meta.
    projection : SparseProjection or None
        Applied to the rows that are kept.
    """

    def __init__(
        self,
        sampling: Sampling,
        choice: BottomK,
        width: int,
        facts: Mapping[str, Any],
        projection: SparseProjection | None,
    ) -> None:
        self._sampling, self.width, self.facts = sampling, width, dict(facts)
        self._projection = projection
        self.reservoir = Reservoir(choice, stratified=sampling.sampler == "stratified")

    def __len__(self) -> int:
        return min(len(self.reservoir), self._sampling.points)

    def take(self, rows: Rows, chosen: Array) -> torch.Tensor:
        """Return some of the rows of an output as they are kept."""
        taken = rows.take(chosen).detach()
        return taken if self._projection is None else self._projection(taken)

    def cloud(self, layer: str, phase: str) -> PointCloud:
        """Return the points kept so far."""
        points, ids, labels = self.reservoir.contents()
        meta: dict[str, Any] = {
            **self.facts,
            "phase": phase,
            "seen": self.reservoir.choice.seen,
            "sampler": self._sampling.sampler,
            "every": self._sampling.every,
            "width": self.width,
        }
        if self._projection is not None:
            meta["projection"] = {
                "dimensions": self._projection.k,
                "seed": self._projection.seed,
                "distortion": self._projection.distortion(len(points)),
            }
        cloud = PointCloud(points, labels, ids, layer=layer, meta=meta)
        return self._cover(cloud) if self._sampling.sampler == "farthest" else cloud

    def _cover(self, cloud: PointCloud) -> PointCloud:
        finite, dropped = cloud.finite()
        if not len(finite):
            return cloud.take(slice(0, self._sampling.points))
        order, radii = farthest_points(finite.points, self._sampling.points)
        chosen = finite.take(order)
        facts = {"candidates": len(finite), "covering_radius": float(radii[-1])}
        if dropped:
            facts["nonfinite"] = dropped
        return PointCloud(
            chosen.points,
            chosen.labels,
            chosen.sample_ids,
            layer=cloud.layer,
            meta={**cloud.meta, **facts},
        )


@dataclass(frozen=True)
class _Offered:
    """Which rows of an output are offered, as what, and with which labels."""

    rows: Array
    offer: Offer
    labels: Array | None


class LayerSamples:
    """All that a probe has kept, by phase and layer.

    Parameters
    ----------
    sampling : Sampling
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._samples: dict[str, dict[str, LayerSample]] = {}
        self._projections: dict[int, SparseProjection] = {}
        self._nothing = BottomK(sampling.capacity, sampling.seed)
        self._batch: object = None
        self._offers: dict[Any, _Offered] = {}
        self._chosen: dict[Any, tuple[BottomK, Array, Array]] = {}

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases in which anything was kept, in the order they came."""
        return tuple(phase for phase, samples in self._samples.items() if samples)

    @property
    def only_phase(self) -> str:
        """The phase of all that was kept.

        Raises
        ------
        ValueError
            There are several.
        """
        if len(self.phases) > 1:
            raise ValueError(
                f"passes of several phases were seen, and are kept apart: {self.phases}; say which "
                f"clouds are wanted, for example probe.clouds_of({self.phases[0]!r})"
            )
        return self.phases[0] if self.phases else ""

    def layers(self, phase: str) -> Mapping[str, LayerSample]:
        """Return what was kept in a phase, by layer."""
        return self._samples.get(phase, {})

    def add(
        self,
        batch: Batch,
        layer: str,
        rows: Rows,
        facts: Mapping[str, Any],
        ids: Array,
        labels: Array | None,
    ) -> None:
        """Offer the rows of a layer in one batch, with the id and label of each of its samples."""
        if batch is not self._batch:
            self._batch = batch
            self._offers.clear()
            self._chosen.clear()
        samples = self._samples.setdefault(batch.phase, {})
        sample = samples.get(layer) or self._new(rows.width, facts)
        if rows.width != sample.width:
            raise Unobservable(
                f"its width changed from {sample.width} to {rows.width} between batches; "
                "pool='mean' or 'positions' gives rows of one width"
            )
        sample.facts["masked"] |= rows.masked
        offered = self._offered(sample, rows, ids, labels)
        reservoir = sample.reservoir
        # Layers that have seen the same stream so far share their choice, and choose alike.
        key = reservoir.choice, offered.offer
        if key not in self._chosen:
            self._chosen[key] = reservoir.choice.choose(offered.offer)
        reservoir.add(
            lambda chosen: sample.take(rows, offered.rows[chosen]),
            self._chosen[key],
            offered.labels,
        )
        samples[layer] = sample

    def _offered(
        self, sample: LayerSample, rows: Rows, ids: Array, labels: Array | None
    ) -> _Offered:
        """Return what a layer offers in this batch; layers with the same rows offer the same."""
        places = None if rows.places is None else rows.places.tobytes()
        key = rows.samples.tobytes(), places
        if key not in self._offers:
            these = np.arange(len(rows))
            if self._sampling.every > 1:
                these = np.flatnonzero(ids[rows.samples] % self._sampling.every == 0)
            samples = rows.samples[these]
            own = None if labels is None else labels[samples]
            positions = None if rows.places is None else rows.places[these]
            offer = sample.reservoir.offer(ids[samples], positions, own)
            self._offers[key] = _Offered(these, offer, own)
        return self._offers[key]

    def forget(self, layer: str) -> None:
        """Drop what a layer has given."""
        for samples in self._samples.values():
            samples.pop(layer, None)

    def clouds(self, phase: str) -> CloudSet:
        """Return the clouds of a phase, by layer; without those that have no point."""
        return CloudSet(
            {
                name: sample.cloud(name, phase)
                for name, sample in self.layers(phase).items()
                if len(sample)
            }
        )

    def merge(self, state: Mapping[str, Any]) -> dict[str, str]:
        """Take in the :meth:`state_dict` of others, made with the same sampling.

        Returns
        -------
        dict of str to str
            Layers whose rows are of another kind there, and are dropped, with the reason.

        Raises
        ------
        ValueError
            It was made with another sampling.
        """
        if state["sampling"] != asdict(self._sampling):
            raise ValueError(
                f"cannot merge what was sampled with {state['sampling']} into those with "
                f"{asdict(self._sampling)}"
            )
        differ = {}
        for phase, layer, width, facts, tensors in state["layers"]:
            samples = self._samples.setdefault(phase, {})
            if layer not in samples:
                samples[layer] = self._new(width, facts)
            sample = samples[layer]
            sample.facts["masked"] |= facts["masked"]
            if (sample.width, sample.facts) != (width, {**facts, "masked": sample.facts["masked"]}):
                differ[layer] = (
                    f"its rows are of width {sample.width} and {sample.facts} in one process, of "
                    f"width {width} and {facts} in another"
                )
                continue
            sample.reservoir.merge({name: tensor.numpy() for name, tensor in tensors.items()})
        for layer in differ:
            self.forget(layer)
        return differ

    def state_dict(self) -> dict[str, Any]:
        """Return all that is kept, as tensors and plain types."""
        layers = [
            [
                phase,
                layer,
                sample.width,
                sample.facts,
                {name: torch.from_numpy(a) for name, a in sample.reservoir.arrays().items()},
            ]
            for phase, samples in self._samples.items()
            for layer, sample in samples.items()
        ]
        return {"sampling": asdict(self._sampling), "layers": layers}

    def _new(self, width: int, facts: Mapping[str, Any]) -> LayerSample:
        capacity, kept = self._sampling.capacity, min(width, self._sampling.max_width or width)
        # What the other layers have been promised, and have not taken yet.
        promised = sum(
            (capacity - len(one.reservoir)) * min(one.width, self._sampling.max_width or one.width)
            for samples in self._samples.values()
            for one in samples.values()
        )
        require_memory(
            4 * (promised + capacity * kept),
            f"a cloud of {capacity} points in {kept} dimensions, beside those of other layers,",
            "Ask for fewer points or layers, a smaller max_width, or pool='mean'.",
        )
        projection = None
        if kept < width:
            if width not in self._projections:
                seed = self._sampling.seed
                self._projections[width] = SparseProjection(
                    width, kept, seed=seed, nonzeros=_NONZEROS
                )
            projection = self._projections[width]
        return LayerSample(self._sampling, self._nothing, width, facts, projection)
