"""Analyses outside the training process: a snapshot of the evidence goes to a worker."""

from __future__ import annotations

import os
import pickle
import signal
import time
import warnings
import weakref
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from geomprobe.analyzer import Analyzer, analyze
from geomprobe.evidence import Evidence
from geomprobe.exceptions import GeomprobeWarning
from geomprobe.findings import Finding
from geomprobe.hooks.quiet import streams_kept
from geomprobe.progress import without_progress


@dataclass(frozen=True)
class Analysis:
    """An analysis under way.

    Parameters
    ----------
    snapshot : bytes
        The evidence as it was, and the analyzers.
    future : Future
        Of the findings, the CPU time that the worker has used in all, and the worker's number.
    started : float
        When it was sent, by ``time.perf_counter``.
    """

    snapshot: bytes
    future: Future[tuple[tuple[Finding, ...], float, int]]
    started: float


class Background:
    """Worker processes that analyze, each on one thread.

    Parameters
    ----------
    workers : int
        How many analyses may be under way at a time.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._executor: Any = None
        self._cpu_seconds: dict[int, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has: workers of its own, not started yet."""
        return {"workers": self.workers, "_executor": None, "_cpu_seconds": {}}

    def submit(self, evidence: Evidence, analyzers: Iterable[Analyzer]) -> Analysis:
        """Start an analysis of the evidence as it is now.

        Raises
        ------
        Exception
            Whatever pickling raises, if the evidence or an analyzer cannot be sent.
        """
        import cloudpickle
        from joblib.externals.loky import ProcessPoolExecutor

        snapshot: bytes = cloudpickle.dumps((evidence, list(analyzers)))
        if self._executor is None:
            self._executor = ProcessPoolExecutor(self.workers, env={"OMP_NUM_THREADS": "1"})
            weakref.finalize(self, self._executor.shutdown, wait=False)
        return Analysis(snapshot, self._executor.submit(_analyze, snapshot), time.perf_counter())

    def result(self, analysis: Analysis) -> tuple[tuple[Finding, ...], float, bool]:
        """Wait for the findings; return them, the seconds that they took, and whether elsewhere.

        With a worker that has died the findings are one failed finding, and the time is that on the
        clock; else it is CPU time. Where the worker could not load the snapshot, the analysis is
        done here and now.
        """
        from joblib.externals.loky.process_executor import BrokenProcessPool

        try:
            findings, total, worker = analysis.future.result()
        except BrokenProcessPool as error:
            self._executor = None
            reason = f"the process that analyzed has died, perhaps for lack of memory: {error}"
        except BaseException as error:
            if not analysis.future.done():
                raise  # An interrupt of this process, while it waited.
            if isinstance(error, Exception):
                return *self._here(analysis, error), False
            reason = f"the analysis was ended by {type(error).__name__}"
        else:
            spent = total - self._cpu_seconds.get(worker, 0.0)
            self._cpu_seconds[worker] = total
            return findings, spent, True
        since = time.perf_counter() - analysis.started
        return (Finding("monitor", "model", failed=reason),), since, True

    def _here(self, analysis: Analysis, error: Exception) -> tuple[tuple[Finding, ...], float]:
        """Analyze in this process what a worker could not load; all that follows, too."""
        warnings.warn(
            "a worker process cannot load what is to be analyzed, and the training process does "
            f"it: {type(error).__name__}: {error}. Define analyzers and losses in a module that "
            "can be imported, or give workers=0",
            GeomprobeWarning,
            stacklevel=4,
        )
        self.workers = 0
        started = time.perf_counter()
        try:
            with streams_kept():
                findings = _findings(analysis.snapshot)
        except Exception as failure:
            reason = f"what is to be analyzed cannot be copied: {type(failure).__name__}: {failure}"
            findings = (Finding("monitor", "model", failed=reason),)
        return findings, time.perf_counter() - started

    def close(self) -> None:
        """End the workers."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None


def _analyze(snapshot: bytes) -> tuple[tuple[Finding, ...], float, int]:
    # A Ctrl-C in the terminal reaches all processes, and is for the training to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _findings(snapshot), time.process_time(), os.getpid()


def _findings(snapshot: bytes) -> tuple[Finding, ...]:
    evidence, analyzers = pickle.loads(snapshot)
    with warnings.catch_warnings(), without_progress():
        # A failed finding is warned of in the training process.
        warnings.simplefilter("ignore")
        return tuple(analyze(evidence, analyzers))
