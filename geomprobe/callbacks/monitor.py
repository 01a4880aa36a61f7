"""Monitor: observe a model from its own training loop, within a time budget."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from geomprobe.analyzer import Analyzer, analyze, resolve_analyzers
from geomprobe.callbacks.history import History, Record
from geomprobe.clouds import Trajectory
from geomprobe.evidence import Loss
from geomprobe.exceptions import DetachedProbeWarning, GeomprobeWarning
from geomprobe.findings import Finding
from geomprobe.hooks.quiet import quiet, streams_kept
from geomprobe.hooks.selection import Layers
from geomprobe.sampling.collect import collect
from geomprobe.sampling.loading import iterate_batches
from geomprobe.sampling.probe import Probe
from geomprobe.sampling.trajectory import TrajectoryRecorder


class Monitor:
    """Observes a model every so often while it trains, and leaves the training as it was.

    ::

        monitor = Monitor(model, probe_data=(x_val, y_val), every="1 epoch",
                          steps_per_epoch=len(loader))
        for x, y in epochs_of(loader):
            ...
            optimizer.step()
            monitor.step(loss=loss.item())
        monitor.history.to_frame()

    Parameters
    ----------
    model : torch.nn.Module
        The model in training.
    probe_data
        Fixed samples for every observation: a tuple ``(inputs, targets)`` of tensors or arrays, or
        anything else of :func:`~geomprobe.sampling.iterate_batches` that can be read again, such
        as a loader. They go through the model in passes of their own, in evaluation mode and
        without gradients.
    every : str
        ``"N steps"`` or ``"N epochs"``.
    steps_per_epoch : int, optional
        Lets :meth:`step` tell epochs. Without it call :meth:`epoch_end` after each.
    budget : float or None
        Largest share of wall time that observations may take. One that is due while more has been
        spent is put off, not dropped. The first is always made. ``None``: no limit.
    analyzers : names or instances
        What to run at each observation.
    layers, exclude, points, pool
        See :class:`~geomprobe.Probe`.
    samples : int
        Inputs kept for analyzers that run the model.
    loss : callable, optional
        ``loss(outputs, targets)``, for analyzers that need to know it.
    n_train : int, optional
        Number of training samples.
    trajectory : int or None
        Record the parameters at every step, projected to this many dimensions, as
        ``monitor.trajectory``.
    seed : int
        Seed of every random choice of the observations.
    strict : bool
        Raise what goes wrong. Otherwise a failed analysis is a failed finding, and a failed
        collection is recorded as a failed finding of the analyzer ``"monitor"``.

    Attributes
    ----------
    history : History
        The observations so far.
    overhead : float
        Share of wall time since construction that went into the monitor.
    """

    def __init__(
        self,
        model: nn.Module,
        probe_data: Any,
        *,
        every: str = "1 epoch",
        steps_per_epoch: int | None = None,
        budget: float | None = 0.03,
        analyzers: str | Analyzer | Iterable[str | Analyzer] = ("persistent_homology",),
        layers: Layers = "auto",
        exclude: Layers = (),
        points: int = 400,
        pool: str = "flatten",
        samples: int = 64,
        loss: Loss | None = None,
        n_train: int | None = None,
        trajectory: int | None = None,
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        self._period, self._unit = _parse_cadence(every)
        if budget is not None and not 0 < budget <= 1:
            raise ValueError(f"budget must be a share of wall time in (0, 1] or None, got {budget}")
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
        self._data = _read_again(probe_data)
        with streams_kept():
            self._analyzers = resolve_analyzers(analyzers)
        self._probing: dict[str, Any] = dict(points=points, pool=pool, seed=seed, strict=strict)
        self._collecting: dict[str, Any] = dict(
            samples=samples, loss=loss, n_train=n_train, seed=seed
        )
        self._model, self._strict, self._budget = model, strict, budget
        self._selected = Probe(model, layers, exclude=exclude, **self._probing).selection
        self._recorder = (
            None if trajectory is None else TrajectoryRecorder(model, dim=trajectory, seed=seed)
        )
        self._recording = True
        self._steps_per_epoch = steps_per_epoch
        self._steps = self._epochs = 0
        self._due = False
        self._loss: float | None = None
        self._spent = 0.0
        self._started = time.perf_counter()
        self.history = History()

    @property
    def overhead(self) -> float:
        """Share of the wall time since construction that went into the monitor."""
        return self._spent / max(time.perf_counter() - self._started, 1e-9)

    @property
    def trajectory(self) -> Trajectory | None:
        """The recorded path of the parameters, if ``trajectory`` was given."""
        return None if self._recorder is None else self._recorder.trajectory

    def step(self, loss: float | None = None) -> None:
        """Say that the optimizer has taken a step; observe if it is time.

        Parameters
        ----------
        loss : float, optional
            The training loss, for the record.
        """
        started = time.perf_counter()
        self._steps += 1
        self._loss = None if loss is None else float(loss)
        self._record()
        if self._unit == "step" and self._steps % self._period == 0:
            self._due = True
        self._spent += time.perf_counter() - started
        if self._steps_per_epoch and self._steps % self._steps_per_epoch == 0:
            self.epoch_end()
        else:
            self._observe_if_due()

    def epoch_end(self) -> None:
        """Say that an epoch has ended; observe if it is time."""
        self._epochs += 1
        if self._unit == "epoch" and self._epochs % self._period == 0:
            self._due = True
        self._observe_if_due()

    def observe(self) -> tuple[Finding, ...]:
        """Observe now, whatever the cadence and the budget, and return the findings."""
        started = time.perf_counter()
        self._due = False
        try:
            probe = Probe(self._model, list(self._selected.selected.values()), **self._probing)
            with quiet(probe.model):
                evidence = collect(
                    probe,
                    self._data,
                    step=self._steps,
                    trajectory=self.trajectory,
                    **self._collecting,
                )
                findings = tuple(analyze(evidence, self._analyzers, strict=self._strict))
        except Exception as error:
            if self._strict:
                raise
            reason = f"{type(error).__name__}: {error}"
            findings = (Finding("monitor", "model", failed=reason),)
            message = f"observation at step {self._steps} failed: {reason}"
            warnings.warn(message, DetachedProbeWarning, stacklevel=2)
        seconds = time.perf_counter() - started
        self._spent += seconds
        self.history.append(Record(self._steps, self._epoch, self._loss, findings, seconds))
        return findings

    def close(self) -> None:
        """Make an observation that is still due, budget or not; a second call changes nothing."""
        if self._due:
            self.observe()
        if self._steps and not self.history:
            warnings.warn(
                f"no observation was made in {self._steps} steps: give steps_per_epoch, call "
                "epoch_end() after each epoch, or observe by steps, every='10 steps'",
                GeomprobeWarning,
                stacklevel=2,
            )

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.close()

    @property
    def _epoch(self) -> float | None:
        if self._steps_per_epoch:
            return self._steps / self._steps_per_epoch
        return float(self._epochs) if self._epochs else None

    def _record(self) -> None:
        if self._recorder is None or not self._recording:
            return
        try:
            self._recorder.record(self._steps, self._loss)
        except Exception as error:
            if self._strict:
                raise
            self._recording = False
            message = f"the trajectory ends before step {self._steps}: {error}"
            warnings.warn(message, DetachedProbeWarning, stacklevel=3)

    def _observe_if_due(self) -> None:
        affordable = self._budget is None or not self.history or self.overhead <= self._budget
        if self._due and affordable:
            self.observe()


def _read_again(data: Any) -> Any:
    """Return data of which every observation can read the same batches; refuse what ends."""
    if isinstance(data, Iterator):
        raise ValueError(
            "probe_data can be read only once; give tensors, a dataset, or a loader itself rather "
            "than an iterator over it"
        )
    with streams_kept():
        next(iter(iterate_batches(data)))
    return data


def _parse_cadence(every: str) -> tuple[int, str]:
    match = re.fullmatch(r"\s*([1-9]\d*)\s*(step|epoch)s?\s*", str(every))
    if match is None:
        raise ValueError(f"every must read like '5 steps' or '1 epoch', got {every!r}")
    return int(match[1]), match[2]
