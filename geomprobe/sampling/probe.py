"""Probe: hooks on a model's layers, and a bounded cloud of points for each."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from geomprobe.clouds import CloudSet
from geomprobe.exceptions import DetachedProbeWarning, SkippedLayerWarning
from geomprobe.hooks.compiled import compiled_parts, may_be_compiled
from geomprobe.hooks.masks import Mask, Padding
from geomprobe.hooks.names import key_of, site_of, split_port
from geomprobe.hooks.outputs import Unobservable, output_tensor, part_of
from geomprobe.hooks.points import LAYOUTS, POOLS, WrongAxis, arrange, layout_of
from geomprobe.hooks.selection import Layers, LayerSelection, select_layers, unwrap
from geomprobe.hooks.tap import Batch, Tap
from geomprobe.processes import place, to_first
from geomprobe.sampling.layer_samples import LayerSample, LayerSamples, Sampling
from geomprobe.storage import Array

_NOBODY: tuple[Array, Array | None] = np.empty(0, np.int64), None
_WITHOUT_POINTS = "called, and gave no point: every= passes over all its samples, or all is padding"


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
        Any model; wrappers of torch.compile and DistributedDataParallel are looked through.
    layers, exclude
        See :func:`~geomprobe.hooks.select_layers`; or a selection that it returned.
    points : int
        Most points a layer keeps, in each phase.
    pool : str, or mapping of layer pattern to str
        What a point is, see :func:`~geomprobe.hooks.arrange`: ``"auto"`` (one point a sample: the
        mean over the tokens of a sequence, all entries of a map), ``"flatten"``, ``"mean"``,
        ``"positions"``, ``"tokens"``, ``"last"`` or ``"cls"``. Of patterns the first that matches
        a layer counts, and layers that none matches have ``"auto"``.
    sampler : {"uniform", "stratified", "farthest"}
        ``"uniform"``: every set of samples is equally likely, and all layers keep the same ones.
        ``"stratified"``: all labels in equal numbers. ``"farthest"``: each next point the farthest
        from those before, among a uniform sample of eight times as many; the cloud's meta states
        the covering radius.
    every : int
        Look at every k-th sample only: those whose id is a multiple.
    phases : collection of str, optional
        Look only at passes of these phases.
    mask : str, callable, None, or mapping of layer pattern to these
        Which positions of sequences are real rather than padding: see
        :func:`~geomprobe.hooks.padding_mask`. Patterns are as those of ``pool``. For a model that
        is given two sequences ``"auto"`` takes the mask of the second one in what is called a
        decoder.
    layout : {"auto", "ntc", "tnc", "nct"}
        Axes of sequences where the layer's type does not tell: by default ``"nct"`` in a network of
        one-dimensional convolutions, and ``"ntc"`` in all others. ``"tnc"`` also says that the
        samples run along the second axis of the model's inputs.
    max_width : int or None
        Wider rows are projected to this many dimensions by a
        :class:`~geomprobe.sampling.SparseProjection`; the cloud's meta says so. Even.
    seed : int
        Seed of sampling and projection.
    strict : bool
        Raise what goes wrong while observing, instead of detaching with a warning.

    Notes
    -----
    Holds at most ``points * min(width, max_width)`` float32 numbers a layer and phase (eight times
    that for ``"farthest"``), whatever the length of the stream. The model's outputs, gradients and
    random streams are not touched.

    Passes in train and in eval mode are kept apart. A sample whose id comes again replaces what it
    gave before. Under ``torch.distributed`` samples are numbered so that no two processes use the
    same number; :meth:`gather` brings all together.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers | LayerSelection = "auto",
        *,
        exclude: Layers = (),
        points: int = 1000,
        pool: str | Mapping[str, str] = "auto",
        sampler: str = "uniform",
        every: int = 1,
        phases: Collection[str] | None = None,
        mask: Mask | Mapping[str, Mask] = "auto",
        layout: str = "auto",
        max_width: int | None = 2048,
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        self._sampling = Sampling(points, sampler, every, max_width, seed)
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {LAYOUTS}, got {layout!r}")
        self.model = unwrap(model)
        self.selection = (
            layers
            if isinstance(layers, LayerSelection)
            else select_layers(model, layers, exclude=exclude)
        )
        sites = list(self.selection.selected)
        pools = list(pool.values()) if isinstance(pool, Mapping) else [pool]
        if unknown := [one for one in pools if one not in POOLS]:
            raise ValueError(f"pool must be one of {POOLS}, got {unknown[0]!r}")
        self._pools: dict[str, str] = _by_pattern("pool", pool, sites)
        self._masks: dict[str, Mask] = _by_pattern("mask", mask, sites)
        if isinstance(phases, str):
            raise ValueError(f"phases must be a collection such as ({phases!r},), got {phases!r}")
        self._phases = None if phases is None else frozenset(phases)
        self._layout = layout_of(self.model) if layout == "auto" else layout
        batch_axis = 1 if layout == "tnc" else 0
        self._tap = Tap(model, self.selection, self._listen, batch_axis=batch_axis, strict=strict)
        self._samples = LayerSamples(self._sampling)
        self._identity = _Identity()
        self._batch: Batch | None = None
        self._padding = Padding(dict, None)
        self._named = _NOBODY
        self._unobservable: dict[str, str] = {}

    def attach(self) -> Probe:
        """Put the hooks in place; a second call changes nothing."""
        self._tap.attach()
        return self

    def detach(self, *, warn: bool = True) -> None:
        """Take the hooks off; what was collected stays.

        Parameters
        ----------
        warn : bool
            Warn of selected layers that gave nothing, as at the end of a ``with``.
        """
        was_attached = self._tap.attached
        self._tap.detach()
        if warn and was_attached:
            self.warn_of_silence()

    def __enter__(self) -> Probe:
        return self.attach()

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        was_attached = self._tap.attached
        self.detach(warn=False)
        if error is None and was_attached:
            self.warn_of_silence()

    def identify(self, ids: Array | None = None, labels: Array | None = None) -> None:
        """Give the sample ids and the labels of the next batch, each of shape (batch,).

        By default samples are numbered as they come and have no labels.
        """
        self._identity = _Identity(
            self.samples_seen,
            None if ids is None else np.asarray(ids, dtype=np.int64),
            None if labels is None else np.asarray(labels),
        )

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Name the phase of the passes within a ``with``, such as ``"sanity check"``."""
        return self._tap.phase(name)

    @property
    def samples_seen(self) -> int:
        """How many samples have passed through the model while attached."""
        return self._tap.samples_seen

    @property
    def seconds(self) -> float:
        """Wall time that observing has taken, within the passes of the model."""
        return self._tap.seconds

    @property
    def failure(self) -> str:
        """What has detached the probe in the middle of its work; empty unless something has."""
        return self._tap.failure

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases of the passes so far: ``"train"``, ``"eval"``, or named by :meth:`phase`."""
        return self._samples.phases

    @property
    def clouds(self) -> CloudSet:
        """The clouds so far, by layer; layers that gave nothing are in :attr:`manifest`.

        Raises
        ------
        ValueError
            Passes of several phases were seen; :meth:`clouds_of` returns those of one.
        """
        return self._samples.clouds(self._samples.only_phase)

    def clouds_of(self, phase: str) -> CloudSet:
        """Return the clouds of the passes of one phase.

        Raises
        ------
        ValueError
            No pass of that phase was seen.
        """
        if phase not in self.phases:
            raise ValueError(f"no pass of the phase {phase!r} was seen, but {self.phases}")
        return self._samples.clouds(phase)

    @property
    def manifest(self) -> tuple[dict[str, Any], ...]:
        """One row a selected layer: name, type, status, reason, points, dimension, aliases.

        ``status`` is observed, skipped (for the reason given) or waiting; ``points`` are those of
        the phase that has the most.
        """
        selection = self.selection
        kept: dict[str, LayerSample] = {}
        for phase in self.phases:
            for name, sample in self._samples.layers(phase).items():
                if name not in kept or len(sample) > len(kept[name]):
                    kept[name] = sample
        reasons = {**selection.skipped, **self._unobservable}
        rows = []
        for name in {**selection.selected, **kept, **self._unobservable}:
            one, reason = kept.get(name), reasons.get(name, "")
            if one is not None and not len(one):
                reason = _WITHOUT_POINTS
            elif one is None and not reason:
                reason = self._why_silent(name)
            rows.append(
                {
                    "name": name,
                    "type": type(
                        selection.selected.get(name) or selection.selected[site_of(name)]
                    ).__name__,
                    "status": "observed" if one else "skipped" if reason else "waiting",
                    "reason": reason,
                    "points": len(one) if one else 0,
                    "dimension": one.width if one else 0,
                    "aliases": list(selection.aliases.get(name, ())),
                }
            )
        return tuple(rows)

    def _why_silent(self, site: str) -> str:
        """Say why a site that can be observed has given nothing; empty if it may still come."""
        if self._tap.failure or site in self._tap.unheard:
            return self._tap.failure or self._tap.unheard[site]
        if not any(self.selection.selected[site] is one for one in self.model.modules()):
            return "no part of the model any more, since another module has taken its place"
        if not self._tap.passes:
            return ""
        layer, compiled = split_port(site)[0], compiled_parts(self.model)
        if any(layer == part or layer.startswith(f"{part}.") for part in compiled):
            return "compiled after the probe was attached, and compiled code calls no hooks"
        reason = "never called"
        if any(True for _ in self.selection.selected[site].parameters()):
            reason += "; its parameters may be used by another module"
        if may_be_compiled():
            reason += "; or it is called in compiled code, which calls no hooks"
        return reason

    def gather(self) -> CloudSet | None:
        """Return the clouds of all processes together on the first of them, None on the others.

        Every process must call it. Samples that several have seen count once, so that the outcome
        is that of one process that has seen everything; a layer that gives no cloud in one of
        them gives none. Without torch.distributed it is :attr:`clouds`.
        """
        state = [self._samples.state_dict(), self._unobservable, self._tap.failure]
        states = to_first(state)
        if states is None:
            return None
        together, reasons = LayerSamples(self._sampling), dict(self._unobservable)
        for samples, unobservable, _ in states:
            reasons = {**unobservable, **together.merge(samples), **reasons}
        for layer in reasons:
            together.forget(layer)
        for layer in reasons.keys() - self._unobservable.keys():
            self._skip(layer, reasons[layer])
        for process, (_, _, failure) in enumerate(states):
            if failure and process:
                message = f"the clouds lack some of what process {process} has seen: {failure}"
                warnings.warn(message, DetachedProbeWarning, stacklevel=2)
        return together.clouds(together.only_phase)

    def reset(self) -> None:
        """Drop what was kept; samples are numbered on."""
        self._samples = LayerSamples(self._sampling)

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept, as tensors and plain types: for a checkpoint of the training."""
        return {
            "samples": self._samples.state_dict(),
            "unobservable": dict(self._unobservable),
            "samples_seen": self._tap.samples_seen,
            "passes": self._tap.passes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned, in place of what was kept here.

        Raises
        ------
        ValueError
            It is the state of a probe that samples otherwise, or other layers.
        """
        kept = {site_of(layer) for _, layer, *_ in state["samples"]["layers"]}
        if unknown := sorted(kept - set(self.selection.selected)):
            raise ValueError(f"the state holds clouds of {unknown}, which this probe does not see")
        fresh = LayerSamples(self._sampling)
        fresh.merge(state["samples"])
        self._samples = fresh
        self._unobservable = dict(state["unobservable"])
        self._tap.samples_seen, self._tap.passes = state["samples_seen"], state["passes"]

    def _listen(self, site: str, call: int, module: nn.Module, value: Any, batch: Batch) -> None:
        key = key_of(site, call)
        if batch.size == 0:
            self._tap.unheard[site] = "called with no sample"
        if batch.size == 0 or key in self._unobservable:
            return
        if self._phases is not None and batch.phase not in self._phases:
            return
        try:
            if batch is not self._batch:
                self._begin(batch)
            layer, port = split_port(site)
            output = output_tensor(part_of(value, port))
            real = None
            if isinstance(output, Tensor) and output.ndim == 3 and not output.is_nested:
                real = self._padding.of(self._masks[site], layer, output.shape)
            rows = arrange(
                output,
                module,
                pool=self._pools[site],
                layout=self._layout,
                port=port,
                real=real,
                n_samples=batch.size,
            )
            if batch.size is None:
                self._tap.count(len(rows.values))
            if len(self._named[0]) != len(rows.values):
                self._named = self._identity.of(batch, len(rows.values))
            dtype = (output.data if isinstance(output, PackedSequence) else output).dtype
            facts = {
                "pool": rows.pool,
                "masked": rows.masked,
                "dtype": str(dtype).removeprefix("torch."),
            }
            self._samples.add(batch, key, rows, facts, *self._named)
        except WrongAxis:
            self.reset()  # The layers before this one were taken for what they are not.
            raise
        except Unobservable as reason:
            self._skip(key, str(reason))

    def _skip(self, key: str, reason: str) -> None:
        """Leave out a layer from now on."""
        self._unobservable[key] = reason
        self._samples.forget(key)
        message = f"layer {key!r} gives no cloud: {reason}"
        warnings.warn(message, SkippedLayerWarning, stacklevel=3)

    def _begin(self, batch: Batch) -> None:
        """Find out once a batch what all its layers share."""
        self._named = self._identity.of(batch, batch.size) if batch.size else _NOBODY
        self._batch = batch
        two = getattr(getattr(self.model, "config", None), "is_encoder_decoder", False) is True
        self._padding = Padding(batch.given, batch.size, two)

    def warn_of_silence(self) -> None:
        """Warn of selected layers that gave no cloud, and say why."""
        if not self._tap.passes and not self._tap.unheard:
            warnings.warn(
                "the probe saw no forward pass of its model. Call the model itself, not one of its "
                "methods, a copy, or a compiled version that the probe was not given",
                SkippedLayerWarning,
                stacklevel=3,
            )
            return
        silent = [
            f"{row['name']!r}: {row['reason']}"
            for row in self.manifest
            if row["status"] == "skipped" and row["name"] not in self._unobservable
        ]
        if silent:
            message = f"selected layers that give no cloud: {'; '.join(silent)}"
            warnings.warn(message, SkippedLayerWarning, stacklevel=3)


def _by_pattern(what: str, chosen: Any, sites: list[str]) -> dict[str, Any]:
    """Return what is chosen for each site, by the first pattern that matches it."""
    rules = dict(chosen) if isinstance(chosen, Mapping) else {"*": chosen}
    for pattern in rules:
        if not any(fnmatchcase(site, pattern) for site in sites):
            raise ValueError(f"{what} names {pattern!r}, which matches none of the layers {sites}")
    return {
        site: next((one for pattern, one in rules.items() if fnmatchcase(site, pattern)), "auto")
        for site in sites
    }


@dataclass(frozen=True)
class _Identity:
    """Ids and labels that were given for the batch that starts after so many samples."""

    start: int = -1
    ids: Array | None = None
    labels: Array | None = None

    def of(self, batch: Batch, size: int) -> tuple[Array, Array | None]:
        """Return the ids and the labels of a batch of so many samples."""
        if batch.start != self.start:
            return _numbered(batch.start, size), None
        for name, given in (("ids", self.ids), ("labels", self.labels)):
            if given is not None and given.shape != (size,):
                raise ValueError(
                    f"{name} of shape {given.shape} were given for a batch of {size} samples"
                )
        return _numbered(batch.start, size) if self.ids is None else self.ids, self.labels


def _numbered(start: int, size: int) -> Array:
    """Give numbers to samples as they come, on each process other ones."""
    rank, processes = place()
    return np.arange(start, start + size) * processes + rank
