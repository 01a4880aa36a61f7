"""audit_many: the same audit of many checkpoints, in parallel, each on disk once it is done."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, ValuesView
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

import geomprobe
from geomprobe.analyzer import resolve_analyzers
from geomprobe.auditing.checkpoint_names import named_checkpoints
from geomprobe.auditing.data_files import SUFFIXES, named_data
from geomprobe.auditing.identity import in_words
from geomprobe.auditing.report import AuditReport
from geomprobe.auditing.run import audit
from geomprobe.exceptions import FailedAnalysisWarning, FileFormatError
from geomprobe.findings import Finding
from geomprobe.hooks.quiet import streams_kept
from geomprobe.named_objects import load_object, made_by
from geomprobe.storage import PathLike, checksum, encode, write_atomically
from geomprobe.sweeps import Lost, one_at_a_time, sweep
from geomprobe.weights import load_weights

_REPORT, _TABLE = "report.json", "numbers.csv"


def audit_many(
    checkpoints: Mapping[str, PathLike] | Iterable[PathLike],
    model: str | Callable[[], nn.Module] | nn.Module,
    data: Any,
    *,
    output: PathLike,
    n_jobs: int | None = None,
    trust_pickle: bool = False,
    progress: bool = True,
    **options: Any,
) -> dict[str, AuditReport]:
    """Audit many checkpoints of one model in the same way.

    Parameters
    ----------
    checkpoints : mapping of names to paths, or paths
        Files of weights, which the workers must see. Without names each is called as its file, or
        as the parts of its path in which it differs from the others.
    model : str, callable or torch.nn.Module
        What the weights go into: ``MODULE:CALLABLE`` or a callable that makes it, or a model, which
        is copied.
    data : str, callable or object
        What a text names (``MODULE:CALLABLE``, a file of arrays, a folder of images), what a
        callable without arguments returns, or what :func:`~geomprobe.audit` takes.
    output : path
        A folder that the workers must see. ``NAME/report.json`` and ``NAME/report.html`` go there,
        and all numbers as one table, ``numbers.csv``.
    n_jobs : int, optional
        Audits at a time, by joblib; by default what ``joblib.parallel_config`` says, or one. The
        backend is that of ``joblib.parallel_config`` too: processes, Dask or Ray.
    trust_pickle : bool
        Also open weights that hold more than tensors and plain types, with all code that they may
        run.
    progress : bool
        Show a bar.
    **options
        Of :func:`~geomprobe.audit`, the same for all.

    Returns
    -------
    dict of str to AuditReport
        By name, in the order of the checkpoints. An audit that raised, or whose worker was lost
        twice, is a report with one failed finding of the analyzer ``audit``. After Ctrl-C so are
        those that were not done by then.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError, OSError
        Bad input, or an output that cannot be written to, before any audit.

    Notes
    -----
    Call it again to go on: an audit that came to its end is not made again unless the checkpoint,
    what ``model``, ``data`` and the options say, or the version of geomprobe is another. Arrays are
    told apart by what they hold. Other models and data are told apart by their names alone if they
    are functions or classes, and by those of their classes if they are objects. Options are told
    apart by what they hold: what has no plain words, such as a module, a trajectory or a lambda, by
    its pickle, and where there is none, or it is another in each process, the audits are made
    again. Each audit is made by one thread, so that it does not depend on how many there are, or
    where.
    """
    from tqdm.auto import tqdm

    options = {
        name: list(one) if isinstance(one, Iterator | KeysView | ValuesView) else one
        for name, one in options.items()
    }
    paths = named_checkpoints(checkpoints)
    _require_usable(paths, model, data, options)
    home = Path(output).resolve()
    home.mkdir(parents=True, exist_ok=True)
    told = {
        "factory": in_words(model),
        "data": in_words(data),
        "options": in_words(options, exact=True),
    }
    one = _Audit(model, data, home, trust_pickle, options, told)
    left = [(name, path) for name, path in paths.items() if not one.is_done(name, path)]
    reasons = dict.fromkeys((name for name, _ in left), "not audited: interrupted before its turn")
    try:
        with tqdm(
            total=len(paths),
            initial=len(paths) - len(left),
            desc="auditing",
            unit="checkpoint",
            disable=not progress,
        ) as bar:
            for (name, _), reason in sweep(one, left, folder=home, n_jobs=n_jobs):
                reasons[name] = reason.reason if isinstance(reason, Lost) else reason
                bar.update()
    except KeyboardInterrupt:
        pass
    reports = {name: one.outcome(name, path, reasons.get(name, "")) for name, path in paths.items()}
    _write_table(home / _TABLE, reports)
    partial_ones = [name for name, report in reports.items() if report.partial]
    if partial_ones:
        warnings.warn(
            f"of {len(reports)} audits {len(partial_ones)} are partial: {', '.join(partial_ones)}",
            FailedAnalysisWarning,
            stacklevel=2,
        )
    return reports


@dataclass(frozen=True)
class _Audit:
    """What is done to each checkpoint; goes to the workers."""

    model: Any
    data: Any
    home: Path
    trust_pickle: bool
    options: Mapping[str, Any]
    told: Mapping[str, Any]

    def __call__(self, task: tuple[str, Path]) -> str:
        """Audit a checkpoint into its folder; return why there is no report in it, or nothing."""
        name, path = task
        try:
            if not self.home.is_dir():
                raise FileNotFoundError(
                    f"this worker does not see {self.home}: give a folder that all machines share"
                )
            if not self.is_done(name, path):  # It is where a worker was lost before it said so.
                self._write(name, self._report(path))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def _report(self, path: Path) -> AuditReport:
        seed, before = self.options.get("seed", 0), self._facts(path)
        try:
            with one_at_a_time(), streams_kept(seed), warnings.catch_warnings():
                warnings.simplefilter("ignore", FailedAnalysisWarning)  # The report says it.
                model = _made(self.model, made_by)
                load_weights(model, path, trust_pickle=self.trust_pickle)
                data = _made(self.data, named_data)
                report = audit(model, data, progress=False, **self.options)
        except Exception as error:
            return self._failed(path, f"{type(error).__name__}: {error}")
        if report.facts["interrupted"]:
            raise KeyboardInterrupt
        if self._facts(path) != before:  # No one knows which of the two the numbers are about.
            return self._failed(path, "the checkpoint changed while it was audited")
        return replace(report, facts={**report.facts, **before})

    def _failed(self, path: Path, reason: str) -> AuditReport:
        facts = {"versions": {"geomprobe": geomprobe.__version__}, "audited": False}
        finding = Finding("audit", "model", failed=reason)
        return AuditReport((finding,), facts={**facts, **self._facts(path)})

    def _facts(self, path: Path) -> dict[str, Any]:
        """Return what tells one audit from another."""
        return {**self.told, "weights": str(path), "sha256": _fingerprint(path)}

    def _write(self, name: str, report: AuditReport) -> None:
        report.to_html(self.home / name / "report.html")
        report.to_json(self.home / name / _REPORT)  # Last: it is what says that the audit is done.

    def _found(self, name: str, path: Path) -> AuditReport | None:
        """Return the report of this audit that is on disk, whether it failed or not."""
        try:
            report = AuditReport.from_json(self.home / name / _REPORT)
        except (OSError, FileFormatError):
            return None
        now = {**self._facts(path), "weights": report.facts.get("weights")}
        same = all(report.facts.get(fact) == encode(value) for fact, value in now.items())
        version = report.facts.get("versions", {}).get("geomprobe")
        return report if same and version == geomprobe.__version__ else None

    def is_done(self, name: str, path: Path) -> bool:
        """Whether the audit has come to its end."""
        return _is_complete(self._found(name, path))

    def outcome(self, name: str, path: Path, reason: str) -> AuditReport:
        """Return the report on disk, or one that says why there is none."""
        found = self._found(name, path)
        if found is not None and (_is_complete(found) or not reason):
            return found
        return self._failed(path, reason or "its report was removed, or the checkpoint has changed")


def _is_complete(report: AuditReport | None) -> bool:
    return report is not None and bool(report.facts.get("audited", True))


def _made(what: Any, named: Callable[[str], Any]) -> Any:
    """Return what a text names, what a callable makes, a copy of a model, or the thing itself."""
    if isinstance(what, str):
        return named(what)
    if isinstance(what, nn.Module):
        return copy.deepcopy(what)
    return what() if callable(what) else what


def _require_usable(paths: Mapping[str, Path], model: Any, data: Any, options: Any) -> None:
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"there is no {', no '.join(missing)}")
    own = {"model", "data", "progress", "strict", "optimizer"}  # An optimizer is of one model.
    known = set(inspect.signature(audit).parameters) - own
    if unknown := sorted(set(options) - known):
        raise TypeError(f"audit_many takes no {unknown}; options are {sorted(known)}")
    if isinstance(model, str):
        load_object(model)
    elif not callable(model):
        raise TypeError(
            "model must be MODULE:CALLABLE, a callable that makes a model, or a model, got "
            f"{type(model).__name__}"
        )
    if isinstance(data, str) and not Path(data).is_dir():
        if not Path(data).exists():
            load_object(data)
        elif not data.endswith(SUFFIXES):
            raise ValueError(
                f"{data} cannot be read: data are a {' or '.join(SUFFIXES)} file, a folder of "
                "images, or MODULE:CALLABLE"
            )
    if isinstance(data, Iterator):
        raise TypeError(
            f"data must last for many audits, and a {type(data).__name__} is used up by the first: "
            "give a callable that returns it"
        )
    if options.get("analyzers") is not None:
        with streams_kept():
            resolve_analyzers(options["analyzers"])


def _fingerprint(path: Path) -> str | None:
    try:
        return checksum(path)
    except OSError:
        return None


def _write_table(path: Path, reports: Mapping[str, AuditReport]) -> None:
    """Write the numbers of all reports, a row each."""
    import pandas as pd

    frames = [report.to_frame().assign(checkpoint=name) for name, report in reports.items()]
    table = pd.concat(frames, ignore_index=True)
    table.insert(0, "checkpoint", table.pop("checkpoint"))
    try:
        write_atomically(path, table.to_csv(index=False).encode())
    except OSError as error:
        warnings.warn(f"{path} cannot be written: {error}", FailedAnalysisWarning, stacklevel=3)
