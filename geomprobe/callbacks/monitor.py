"""Monitor: observe a model from its own training loop, within a time budget."""

from __future__ import annotations

import copy
import time
import warnings
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from geomprobe.analyzer import Analyzer, analyze, resolve_analyzers, warn_of_failure
from geomprobe.callbacks.background import Analysis, Background
from geomprobe.callbacks.cadence import Budget, Cadence
from geomprobe.callbacks.delivery import Delivery, Sink
from geomprobe.callbacks.history import History, Record
from geomprobe.callbacks.sources import ProbePass, Source, TrainingTap
from geomprobe.clouds import CloudSet, Trajectory
from geomprobe.evidence import Earlier, Evidence, Loss, require_counts, require_loss
from geomprobe.exceptions import DetachedProbeWarning, FileFormatError, GeomprobeWarning
from geomprobe.findings import Finding
from geomprobe.hooks.masks import Mask
from geomprobe.hooks.optimizers import unwrap_optimizer
from geomprobe.hooks.quiet import quiet, streams_kept
from geomprobe.hooks.selection import Layers, unwrap
from geomprobe.processes import from_first, place, to_all
from geomprobe.progress import without_progress
from geomprobe.sampling.collect import sample_of
from geomprobe.sampling.store import CloudStore
from geomprobe.sampling.trajectory import TrajectoryRecorder
from geomprobe.storage import Array, PathLike
from geomprobe.weights import nan_in


class Monitor:
    """Observes a model every so often while it trains, and leaves the training as it was.

    ::

        monitor = Monitor(model, probe_data=(x_val, y_val), every="1 epoch",
                          steps_per_epoch=len(loader))
        for x, y in epochs_of(loader):
            ...
            optimizer.step()
            monitor.step(loss=loss.item())
        monitor.close()
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
    tap : bool
        Take the clouds from the training batches as they pass instead, those since the last
        observation; the findings say so. Then ``probe_data`` only serves analyzers that run the
        model, and may be missing.
    every : str
        ``"N steps"`` or ``"N epochs"``.
    steps_per_epoch : int, optional
        Lets :meth:`step` tell epochs. Without it call :meth:`epoch_end` after each.
    budget : float or None
        Largest share of wall time that observations may take. One that is due and would exceed it
        is left out; :meth:`close` makes up for the last. The first is always made. ``None``: no
        limit.
    workers : int
        Processes that analyze while the training goes on, from a snapshot of the evidence; an
        observation that is due while all are busy is left out as one beyond the budget is. 0:
        analyze in the training process, at the step. That is also done where an analyzer needs a
        model that is on an accelerator, with ``strict``, and under ``torch.distributed``.
    analyzers : names or instances
        What to run at each observation.
    layers, exclude, points, pool, sampler, mask, layout
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
    trajectory_samples : int
        At each point of the trajectory, also record the losses of so many of the probe samples, and
        which are classified rightly, for distances between iterates by what they do. That takes
        ``probe_data`` with targets, ``loss``, and a pass of these samples a point.
    optimizer : torch.optim.Optimizer, optional
        Records its learning rates beside the trajectory; analyzers that need it are shown it.
    store : CloudStore or path, optional
        Keep the clouds of every observation there.
    sinks : iterable of callables
        Each gets every :class:`~geomprobe.callbacks.Record` when it is done, on the first process:
        :class:`~geomprobe.callbacks.CSVSink`, those beside it, or a function of your own. One that
        fails is tried again with the next record, after a warning.
    seed : int
        Seed of every random choice of the observations.
    strict : bool
        Raise what goes wrong. Otherwise a failed analysis is a failed finding, and a failed
        collection, or weights that hold NaN, a failed finding of the analyzer ``"monitor"``.

    Notes
    -----
    Under ``torch.distributed`` every process has its monitor and calls it at the same steps. Each
    shows its share of the probe data to the model, the first one analyzes, and all get the
    findings.
    """

    def __init__(
        self,
        model: nn.Module,
        probe_data: Any = None,
        *,
        tap: bool = False,
        every: str = "1 epoch",
        steps_per_epoch: int | None = None,
        budget: float | None = 0.03,
        workers: int = 1,
        analyzers: str | Analyzer | Iterable[str | Analyzer] = ("persistent_homology",),
        layers: Layers = "auto",
        exclude: Layers = (),
        points: int = 400,
        pool: str | Mapping[str, str] = "auto",
        sampler: str = "uniform",
        mask: Mask | Mapping[str, Mask] = "auto",
        layout: str = "auto",
        samples: int = 64,
        loss: Loss | None = None,
        n_train: int | None = None,
        trajectory: int | None = None,
        trajectory_samples: int = 0,
        optimizer: torch.optim.Optimizer | None = None,
        store: CloudStore | PathLike | None = None,
        sinks: Iterable[Sink] = (),
        seed: int = 0,
        strict: bool = False,
    ) -> None:
        self._cadence, self._budget = Cadence(every, steps_per_epoch), Budget(budget)
        if workers < 0:
            raise ValueError(f"workers must be 0 or more, got {workers}")
        require_counts(0, seed=seed)
        require_counts(1, points=points, samples=samples, n_train=n_train)
        require_loss(loss)
        if probe_data is None and not tap:
            raise ValueError("give probe_data, or tap=True to look at the training batches")
        with streams_kept():
            self._analyzers = resolve_analyzers(analyzers)
        self._model, self._strict = unwrap(model), strict
        self._source: Source = (TrainingTap if tap else ProbePass)(
            model,
            probe_data,
            samples,
            layers=layers,
            exclude=exclude,
            points=points,
            pool=pool,
            sampler=sampler,
            mask=mask,
            layout=layout,
            seed=seed,
            strict=strict,
        )
        self._source_seconds = 0.0
        stepper = unwrap_optimizer(optimizer)
        for one in self._analyzers:
            if stepper is None and "optimizer" in one.needs:
                self._warn(f"{one.name} looks at the optimizer: give the Monitor optimizer=")
            if "others" in one.needs:
                self._warn(f"{one.name} looks at other models, which an audit takes by others=")
        self._facts: dict[str, Any] = dict(loss=loss, n_train=n_train, optimizer=stepper)
        watched = None
        if trajectory_samples:
            if trajectory is None or probe_data is None or loss is None or trajectory_samples < 1:
                raise ValueError(
                    f"trajectory_samples={trajectory_samples} takes a positive number, a "
                    "trajectory, probe_data with targets, and a loss"
                )
            with streams_kept(seed):
                watched = sample_of(probe_data, self._model, trajectory_samples, seed=seed)
        self._recorder = (
            None
            if trajectory is None
            else TrajectoryRecorder(
                model, dim=trajectory, optimizer=optimizer, seed=seed, samples=watched, loss=loss
            )
        )
        self._recording = True
        self._store = store if store is None or isinstance(store, CloudStore) else CloudStore(store)
        if callable(sinks):
            raise TypeError(f"sinks must be a list of sinks, got one: sinks=[{sinks!r}]")
        self._delivery = Delivery(sinks if place()[0] == 0 else (), strict=strict)
        self._background = Background(0 if strict or place()[1] > 1 else workers)
        self._pending: deque[_Observation] = deque()
        self._history = History()
        self._missed = False
        self._looks_back = any(getattr(one, "looks_back", False) for one in self._analyzers)
        self._earlier = self._state() if self._looks_back else None
        self._left_out, self._recording_seconds = 0, 0.0
        self._last_loss: float | torch.Tensor | None = None
        self._budget.book(self._budget.elapsed)

    @property
    def model(self) -> nn.Module:
        """The model in training, without wrappers."""
        return self._model

    @property
    def history(self) -> History:
        """The observations so far. Waits for analyses that are under way."""
        self._wait()
        return self._history

    @property
    def overhead(self) -> float:
        """Share of the wall time since construction began that went into the monitor.

        All time spent in the construction, at the steps and, with ``tap``, in the training passes,
        and the CPU time of analyses in worker processes; of one that died with its worker, the time
        since it was sent.
        """
        return self._budget.overhead

    @property
    def trajectory(self) -> Trajectory | None:
        """The recorded path of the parameters, if ``trajectory`` was given."""
        return None if self._recorder is None else self._recorder.trajectory

    def step(self, loss: float | torch.Tensor | None = None) -> None:
        """Say that the optimizer has taken a step; observe if it is time.

        Parameters
        ----------
        loss : float or tensor with one entry, optional
            The training loss, for the record.
        """
        with self._budget.measured():
            due = self._cadence.step()
            # Read where it is recorded: on an accelerator reading waits for the step to end.
            self._last_loss = loss.detach().clone() if isinstance(loss, torch.Tensor) else loss
            started = time.perf_counter()
            self._record()
            self._recording_seconds += time.perf_counter() - started
            self._finish(wait=False)
            self._budget.book(self._source.seconds - self._source_seconds)
            self._source_seconds = self._source.seconds
            self._observe_if(due)

    def epoch_end(self) -> None:
        """Say that an epoch has ended; observe if it is time."""
        with self._budget.measured():
            self._observe_if(self._cadence.epoch_end())

    def observe(self) -> tuple[Finding, ...]:
        """Observe now, whatever the cadence and the budget, and return the findings."""
        with self._budget.measured():
            self._observe()
        return self.history[-1].findings

    def identify(self, ids: Array | None = None, labels: Array | None = None) -> None:
        """With ``tap``, give sample ids and labels of the next batch; see :class:`Probe`."""
        self._source.identify(ids, labels)

    def close(self) -> None:
        """Make the observation that was last left out, and detach; again, it changes nothing."""
        if self._missed:
            with self._budget.measured():
                self._observe()
        self.detach()
        share = self._recording_seconds / max(self._budget.elapsed, 1e-9)
        limit = self._budget.share
        if self._left_out and self._recorder is not None and limit and share > limit / 2:
            warnings.warn(
                f"{self._left_out} observations were left out, since recording the trajectory "
                f"alone takes {share:.1%} of the time: give a larger budget, or budget=None",
                GeomprobeWarning,
                stacklevel=2,
            )
        if self._cadence.steps and not self._history:
            warnings.warn(
                f"no observation was made in {self._cadence.steps} steps: give steps_per_epoch, "
                "call epoch_end() after each epoch, or observe by steps, every='10 steps'",
                GeomprobeWarning,
                stacklevel=2,
            )

    def detach(self) -> None:
        """Wait for what is under way, and let go of the model, of workers and of sinks."""
        self._wait()
        self._background.close()
        self._source.close()
        self._delivery.close(self._history)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has, after waiting for analyses under way: all but the sinks."""
        self._wait()
        return {**vars(self), "_delivery": Delivery()}

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.close()
        else:
            self.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return all that an interrupted training needs to go on as if it had not been.

        Tensors and plain types, for ``torch.save`` beside the model and the optimizer.
        """
        return {
            "history": self.history.to_dicts(),
            "cadence": self._cadence.state_dict(),
            "budget": self._budget.state_dict(),
            "missed": self._missed,
            "loss": self._loss,
            "trajectory": None if self._recorder is None else self._recorder.state_dict(),
            "tap": self._source.state_dict(),
            "earlier": None if self._earlier is None else vars(self._earlier),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned; a store forgets what came after it.

        Raises
        ------
        ValueError
            It is the state of a monitor that was made otherwise.
        """
        tap = self._source if isinstance(self._source, TrainingTap) else None
        for name, own in (("trajectory", self._recorder), ("tap", tap)):
            if (state[name] is None) != (own is None):
                without = "without" if own is None else "with"
                raise ValueError(f"this monitor was made {without} {name}, the state was not")
            if own is not None:
                own.load_state_dict(state[name])
        self._pending.clear()
        self._history = History.from_dicts(state["history"])
        self._cadence.load_state_dict(state["cadence"])
        self._budget.load_state_dict(state["budget"])
        self._missed, self._last_loss = state["missed"], state["loss"]
        if self._looks_back and state.get("earlier"):
            self._earlier = Earlier(**state["earlier"])
        if self._store is not None and place()[0] == 0:
            # What was observed after the checkpoint will be observed again.
            self._store.truncate(after=self._cadence.steps)
        self._delivery.resume(self._history, self._cadence.steps)

    @property
    def _loss(self) -> float | None:
        return None if self._last_loss is None else float(self._last_loss)

    def _record(self) -> None:
        if self._recorder is None or not self._recording:
            return
        try:
            self._recorder.record(self._cadence.steps, self._last_loss)
        except Exception as error:
            if self._strict:
                raise
            self._recording = False
            self._warn(f"the trajectory ends before step {self._cadence.steps}: {error}")

    def _observe_if(self, due: bool) -> None:
        if not due:
            return
        self._missed = True
        affordable = self._budget.affords and len(self._pending) < max(1, self._background.workers)
        # Only the first process knows what analyses cost.
        if from_first(affordable):
            self._observe()
        else:
            self._left_out += 1

    def _observe(self) -> None:
        started = time.perf_counter()
        self._missed = False
        findings: tuple[Finding, ...] = ()
        analysis = None
        try:
            if reason := next(filter(None, to_all(nan_in(self._model, buffers=False))), ""):
                raise ValueError(reason)
            with quiet(self._model), without_progress():
                evidence = self._source.evidence()
                if evidence is not None:
                    evidence = replace(
                        evidence,
                        step=self._cadence.steps,
                        trajectory=self.trajectory,
                        earlier=self._earlier,
                        **self._facts,
                    )
                    if self._looks_back:
                        self._earlier = self._state()
                    self._keep(evidence.clouds)
                    analysis = self._send(evidence)
                    if analysis is None:
                        findings = tuple(analyze(evidence, self._analyzers, strict=self._strict))
        except Exception as error:
            if self._strict and place()[1] == 1:
                raise
            findings = (Finding("monitor", "model", failed=f"{type(error).__name__}: {error}"),)
        findings = self._agreed(findings)
        seconds = time.perf_counter() - started
        self._pending.append(
            _Observation(
                Record(self._cadence.steps, self._cadence.epoch, self._loss, findings, seconds),
                analysis,
            )
        )
        self._finish(wait=False)

    def _state(self) -> Earlier:
        """Return a copy of the model as it is now."""
        return Earlier(copy.deepcopy(self._model.state_dict()), self._cadence.steps)

    def _keep(self, clouds: CloudSet) -> None:
        if self._store is None:
            return
        try:
            self._store.append(clouds, step=self._cadence.steps, replace=True)
        except (OSError, FileFormatError) as error:
            if self._strict:
                raise
            self._store = None
            self._warn(f"clouds are kept no longer, from step {self._cadence.steps}: {error}")

    def _send(self, evidence: Evidence) -> Analysis | None:
        """Have a worker analyze, if one can."""
        if not self._background.workers:
            return None
        needed = frozenset[str]().union(*(analyzer.needs for analyzer in self._analyzers))
        if "optimizer" not in needed:
            evidence = replace(evidence, optimizer=None)
        if not needed & {"model", "data"}:
            evidence = replace(evidence, model=None, data=None)
        elif any(parameter.device.type != "cpu" for parameter in self._model.parameters()):
            return None
        try:
            return self._background.submit(evidence, self._analyzers)
        except Exception as error:
            self._background.close()
            self._background = Background(0)
            reason = f"{type(error).__name__}: {error}"
            self._warn(f"analyses run in the training process, since a worker cannot: {reason}")
            return None

    def _agreed(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Return the findings of the first process; warn of its failure to collect."""
        if place()[1] > 1:
            shared = from_first([finding.to_dict() for finding in findings])
            findings = tuple(map(Finding.from_dict, shared))
        for finding in findings:
            if finding.analyzer == "monitor":
                message = f"observation at step {self._cadence.steps} failed: {finding.failed}"
                if self._strict:
                    raise RuntimeError(message)
                self._warn(message)
        return findings

    def _finish(self, *, wait: bool = True) -> None:
        """Put into the history, in order, what has been analyzed."""
        while self._pending and (wait or self._pending[0].is_done):
            record, analysis = self._pending[0].record, self._pending[0].analysis
            failures: list[Finding] = []
            if analysis is not None:
                findings, seconds, elsewhere = self._background.result(analysis)
                if elsewhere:
                    self._budget.book(seconds)
                record = replace(record, findings=findings, seconds=record.seconds + seconds)
                failures = [finding for finding in findings if finding.failed is not None]
            if note := self._source.note:
                marked = (replace(one, notes=(*one.notes, note)) for one in record.findings)
                record = replace(record, findings=tuple(marked))
            self._pending.popleft()
            self._budget.observed(record.seconds)
            self._history.append(record)
            for finding in failures:
                warn_of_failure(finding)
            self._delivery.bring(self._history)

    def _wait(self) -> None:
        """Wait for all analyses; waiting beyond the time that they took themselves is a cost."""
        started, booked = time.perf_counter(), self._budget.spent
        self._finish()
        waited = time.perf_counter() - started
        self._budget.book(max(0.0, waited - (self._budget.spent - booked)))

    def _warn(self, message: str) -> None:
        warnings.warn(message, DetachedProbeWarning, stacklevel=4)


@dataclass(frozen=True)
class _Observation:
    """A record, whose findings an analysis may still have to bring."""

    record: Record
    analysis: Analysis | None

    @property
    def is_done(self) -> bool:
        return self.analysis is None or self.analysis.future.done()
