"""Probe: hooks on a model's layers, and a bounded cloud of points for each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from geomprobe.clouds import CloudSet, PointCloud
from geomprobe.exceptions import SkippedLayerWarning
from geomprobe.hooks.outputs import POOLS, Unobservable, output_rows, output_tensor
from geomprobe.hooks.selection import Layers, select_layers, unwrap
from geomprobe.hooks.tap import Batch, Tap
from geomprobe.memory import require_memory
from geomprobe.sampling.projection import SparseProjection
from geomprobe.sampling.reservoir import Reservoir
from geomprobe.storage import Array


class Probe:
    """Collects activation clouds of a model while it runs.

    ::

        with Probe(model, layers="encoder.*", points=2000) as probe:
            for x, _ in loader:
                model(x)
        probe.clouds["encoder.3"].points

    Parameters
    ----------
    model : torch.nn.Module
        Any eager model; wrappers of torch.compile and DistributedDataParallel are looked through.
    layers, exclude
        See :func:`~geomprobe.hooks.select_layers`.
    points : int
        Most points a layer keeps: a uniform sample of all it is shown, the same samples in every
        layer.
    pool : {"flatten", "mean", "positions"}, or mapping of layer name to one of them
        What a point is; see :func:`~geomprobe.hooks.output_rows`.
    max_width : int or None
        Wider rows are projected to this many dimensions by a
        :class:`~geomprobe.sampling.SparseProjection`; the cloud's meta says so. A multiple of 4.
    seed : int
        Seed of sampling and projection.
    strict : bool
        Raise what goes wrong while observing, instead of detaching with a warning.

    Notes
    -----
    Holds at most ``points * min(width, max_width)`` float32 numbers a layer, whatever the length of
    the stream. The model's outputs, gradients and random streams are not touched. A probe captures
    the passes it is shown as they are: in train mode too, which the cloud's meta records.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers = "auto",
        *,
        exclude: Layers = (),
        points: int = 1000,
        pool: str | Mapping[str, str] = "flatten",
        max_width: int | None = 2048,
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        if points < 1:
            raise ValueError(f"points must be at least 1, got {points}")
        pools = pool.values() if isinstance(pool, Mapping) else [pool]
        if unknown := [one for one in pools if one not in POOLS]:
            raise ValueError(f"pool must be one of {POOLS}, got {unknown[0]!r}")
        if max_width is not None and (max_width < 4 or max_width % 4):
            raise ValueError(f"max_width must be a positive multiple of 4, got {max_width}")
        self.model = unwrap(model)
        self.selection = select_layers(model, layers, exclude=exclude)
        self._points, self._pool, self._max_width = points, pool, max_width
        self._seed, self._strict = seed, strict
        self._tap = Tap(model, self.selection, self._listen, strict=strict)
        self._identity = _Identity()
        self._layers: dict[str, _Layer] = {}
        self._unobservable: dict[str, str] = {}

    def attach(self) -> Probe:
        """Put the hooks in place; a second call changes nothing."""
        self._tap.attach()
        return self

    def detach(self) -> None:
        """Take the hooks off; what was collected stays."""
        self._tap.detach()

    def __enter__(self) -> Probe:
        return self.attach()

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.detach()
        if error is None:
            self._warn_of_silence()

    def identify(self, ids: Array | None = None, labels: Array | None = None) -> None:
        """Give the sample ids and the labels of the next batch, each of shape (batch,).

        By default samples are numbered as they come and have no labels.
        """
        self._identity = _Identity(
            self.samples_seen,
            None if ids is None else np.asarray(ids, dtype=np.int64),
            None if labels is None else np.asarray(labels),
        )

    @property
    def samples_seen(self) -> int:
        """How many samples have passed through the model while attached."""
        return self._tap.samples_seen

    @property
    def clouds(self) -> CloudSet:
        """The clouds so far, by layer; layers that gave nothing are in :attr:`manifest`."""
        return CloudSet({name: layer.cloud(name) for name, layer in self._layers.items()})

    @property
    def manifest(self) -> tuple[dict[str, Any], ...]:
        """One row a selected layer: name, type, status, reason, points, dimension, aliases."""
        rows = []
        seen = self._tap.samples_seen > 0
        selection = self.selection
        reasons = {**selection.skipped, **self._unobservable}
        for name in {**selection.selected, **self._layers, **self._unobservable}:
            module = selection.selected[name.partition("#")[0]]
            layer, reason = self._layers.get(name), reasons.get(name, "")
            if layer is None and not reason and seen:
                reason = "never called; its parameters may be used by another module"
            rows.append(
                {
                    "name": name,
                    "type": type(module).__name__,
                    "status": "observed" if layer else "skipped" if reason else "waiting",
                    "reason": reason,
                    "points": len(layer.reservoir.choice) if layer else 0,
                    "dimension": layer.width if layer else 0,
                    "aliases": list(self.selection.aliases.get(name, ())),
                }
            )
        return tuple(rows)

    def _listen(self, name: str, module: nn.Module, output: Any, batch: Batch) -> None:
        if name in self._unobservable:
            return
        try:
            tensor = output_tensor(output).detach()
            pool = self._pool if isinstance(self._pool, str) else self._pool.get(name, "flatten")
            rows, positions = output_rows(tensor, module, pool, batch.size)
            layer = self._layers.get(name)
            if layer is None:
                layer = self._new_layer(rows.shape[1], tensor.dtype, pool)
            ids, labels = self._identity.of(batch, len(rows) // positions)
            layer.add(rows, positions, ids, labels, batch.training)
            self._layers[name] = layer
        except Unobservable as reason:
            self._unobservable[name] = str(reason)
            self._layers.pop(name, None)
            message = f"layer {name!r} gives no cloud: {reason}"
            warnings.warn(message, SkippedLayerWarning, stacklevel=2)

    def _new_layer(self, width: int, dtype: torch.dtype, pool: str) -> _Layer:
        kept = min(width, self._max_width or width)
        require_memory(
            4 * self._points * kept,
            f"a cloud of {self._points} points in {kept} dimensions",
            "Ask for fewer points, a smaller max_width, or pool='mean'.",
        )
        projection = SparseProjection(width, kept, seed=self._seed) if kept < width else None
        return _Layer(Reservoir(self._points, self._seed), width, projection, dtype, pool)

    def _warn_of_silence(self) -> None:
        silent = [
            f"{row['name']!r}: {row['reason']}"
            for row in self.manifest
            if row["status"] == "skipped" and row["name"] not in self._unobservable
        ]
        if silent and self.samples_seen:
            message = f"selected layers that give no cloud: {'; '.join(silent)}"
            warnings.warn(message, SkippedLayerWarning, stacklevel=3)


@dataclass(frozen=True)
class _Identity:
    """Ids and labels that were given for the batch that starts after so many samples."""

    start: int = -1
    ids: Array | None = None
    labels: Array | None = None

    def of(self, batch: Batch, size: int) -> tuple[Array, Array | None]:
        """Return the ids and the labels of a batch of so many samples."""
        if batch.start != self.start:
            return np.arange(batch.start, batch.start + size), None
        for name, given in (("ids", self.ids), ("labels", self.labels)):
            if given is not None and given.shape != (size,):
                raise ValueError(
                    f"{name} of shape {given.shape} were given for a batch of {size} samples"
                )
        ids = np.arange(batch.start, batch.start + size) if self.ids is None else self.ids
        return ids, self.labels


class _Layer:
    """What one layer has given so far."""

    def __init__(
        self,
        reservoir: Reservoir,
        width: int,
        projection: SparseProjection | None,
        dtype: torch.dtype,
        pool: str,
    ) -> None:
        self.reservoir, self.width, self.pool = reservoir, width, pool
        self._projection, self._dtype = projection, dtype
        self._phases: set[str] = set()

    def add(
        self, rows: torch.Tensor, positions: int, ids: Array, labels: Array | None, training: bool
    ) -> None:
        if rows.shape[1] != self.width:
            raise Unobservable(
                f"its width changed from {self.width} to {rows.shape[1]} between batches; "
                "pool='mean' or 'positions' gives rows of one width"
            )
        self._phases.add("train" if training else "eval")
        places = None
        if positions > 1:
            places = np.tile(np.arange(positions), len(ids))
            ids = np.repeat(ids, positions)
            labels = None if labels is None else np.repeat(labels, positions)
        self.reservoir.add(rows, ids, places, labels=labels, transform=self._projection)

    def cloud(self, name: str) -> PointCloud:
        points, ids, labels = self.reservoir.contents()
        meta: dict[str, Any] = {
            "pool": self.pool,
            "dtype": str(self._dtype).removeprefix("torch."),
            "seen": self.reservoir.choice.seen,
            "phases": sorted(self._phases),
            "width": self.width,
        }
        if self._projection is not None:
            meta["projection"] = {
                "dimensions": self._projection.k,
                "seed": self._projection.seed,
                "distortion": self._projection.distortion(len(points)),
            }
        return PointCloud(points, labels, ids, layer=name, meta=meta)
