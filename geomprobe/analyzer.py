"""The Analyzer protocol, the registry of analyzers, and the one loop that runs them."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch

from geomprobe.evidence import NEEDS, Evidence
from geomprobe.exceptions import FailedAnalysisWarning
from geomprobe.findings import Finding

ENTRY_POINTS = "geomprobe.analyzers"


@runtime_checkable
class Analyzer(Protocol):
    """Anything that turns :class:`~geomprobe.Evidence` into findings.

    In practice a frozen dataclass whose fields are its parameters. It yields findings one by one,
    so that what is finished survives a failure or an interrupt, and leaves ``seconds`` to the
    caller. One with an attribute ``by_default`` that is false runs in an audit only if asked for;
    one with an attribute ``looks_back`` that is true is shown by a monitor what the model was like
    at the observation before; an attribute ``caveat`` is what its numbers do not say, for reports.
    """

    #: Name in the registry, in findings and in metric names.
    name: ClassVar[str]
    #: Which of activations, trajectory, model, data, optimizer and others it cannot do without.
    needs: ClassVar[frozenset[str]]
    #: How to read each scalar it yields: one sentence by scalar name.
    readings: ClassVar[Mapping[str, str]]

    def __call__(self, evidence: Evidence) -> Iterable[Finding]:
        """Analyze the evidence."""
        ...


def registered_analyzers() -> dict[str, EntryPoint]:
    """Return every installed analyzer by name, geomprobe's and third parties', not yet imported.

    A package offers one by an entry point in the group ``geomprobe.analyzers``. What is installed,
    removed or changed after the first call is seen once a name is asked for that is not there.
    """
    return dict(_registered(entry_points, tuple(sys.path)))


@lru_cache(maxsize=4)
def _registered(find: Callable[..., Any], path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Read what every installed package offers: some milliseconds for a hundred packages."""
    return {point.name: point for point in find(group=ENTRY_POINTS)}


def load_analyzer(name: str, **parameters: Any) -> Analyzer:
    """Import a registered analyzer and construct it.

    Raises
    ------
    ValueError
        No analyzer of that name is registered; the message lists those that are.
    TypeError
        What is registered under the name is no analyzer.
    """
    registered = registered_analyzers()
    if name not in registered:
        _registered.cache_clear()
        registered = registered_analyzers()
    if name not in registered:
        near = get_close_matches(name, registered, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no analyzer {name!r}; registered are {sorted(registered)}.{hint}")
    return _checked(registered[name].load()(**parameters))


def resolve_analyzers(spec: str | Analyzer | Iterable[str | Analyzer] | None) -> list[Analyzer]:
    """Turn names and instances into analyzers.

    ``None`` stands for all that are registered; one of them that does not load is not asked for by
    anybody, and becomes an analyzer that fails with the reason.
    """
    if spec is None:
        return [_loaded_or_failing(name) for name in registered_analyzers()]
    if isinstance(spec, str) or not isinstance(spec, Iterable):
        spec = [spec]
    return [load_analyzer(one) if isinstance(one, str) else _checked(one) for one in spec]


def _loaded_or_failing(registered: str) -> Analyzer:
    try:
        return load_analyzer(registered)
    except Exception as error:
        reason = error

    class Unloadable:
        name: ClassVar[str] = registered
        needs: ClassVar[frozenset[str]] = frozenset()
        readings: ClassVar[Mapping[str, str]] = {}

        def __call__(self, evidence: Evidence) -> Iterable[Finding]:
            raise reason

    return Unloadable()


def _checked(candidate: Any) -> Analyzer:
    missing = [
        part
        for part in ("name", "needs", "readings", "__call__")
        if isinstance(candidate, type) or not hasattr(candidate, part)
    ]
    if missing:
        raise TypeError(
            f"{candidate!r} is no analyzer: it lacks {missing}. Give an instance with the class "
            "attributes name, needs and readings, that can be called with an Evidence"
        )
    unknown = frozenset(candidate.needs) - NEEDS
    if unknown:
        raise TypeError(
            f"analyzer {candidate.name!r} needs {sorted(unknown)}, which is not among "
            f"{sorted(NEEDS)}"
        )
    return candidate  # type: ignore[no-any-return]


def analyze(
    evidence: Evidence,
    analyzers: str | Analyzer | Iterable[str | Analyzer] | None = None,
    *,
    strict: bool = False,
) -> Iterator[Finding]:
    """Run analyzers on evidence and yield their findings as they come.

    Parameters
    ----------
    evidence : Evidence
        What to look at.
    analyzers : names or instances, optional
        Default: every registered analyzer.
    strict : bool
        Raise what an analyzer raises. Otherwise it becomes a failed finding, and the next
        analyzer runs.

    Yields
    ------
    Finding
        With ``seconds`` filled in. An analyzer whose needs the evidence cannot serve yields one
        failed finding that names what is missing. With every failed finding comes a
        :class:`~geomprobe.exceptions.FailedAnalysisWarning`.
    """
    for analyzer in resolve_analyzers(analyzers):
        for finding in _findings(analyzer, evidence, strict):
            if finding.failed is not None:
                warn_of_failure(finding)
            yield finding


def warn_of_failure(finding: Finding) -> None:
    """Issue the warning that comes with a failed finding."""
    about = f"{finding.analyzer} of {finding.subject} failed: {finding.failed}"
    warnings.warn(about, FailedAnalysisWarning, stacklevel=3)


def _as_in_training(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Let an analyzer differentiate, whatever mode it is called in."""
    iterator = iter(findings)
    while True:
        with torch.inference_mode(False), torch.enable_grad():
            finding = next(iterator, None)
        if finding is None:
            return
        yield finding


def _findings(analyzer: Analyzer, evidence: Evidence, strict: bool) -> Iterator[Finding]:
    missing = sorted(analyzer.needs - evidence.available)
    if missing:
        reason = f"needs {', '.join(missing)}, which the evidence does not hold"
        yield Finding(analyzer.name, "model", failed=reason)
        return
    started = time.perf_counter()
    try:
        for finding in _as_in_training(analyzer(evidence)):
            yield replace(finding, seconds=time.perf_counter() - started)
            started = time.perf_counter()
    except Exception as error:
        if strict:
            raise
        reason = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - started
        yield Finding(analyzer.name, "model", failed=reason, seconds=seconds)
