"""Comparing two audits, number by number, each difference measured in its standard error."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geomprobe.auditing.between_models import between_summary
from geomprobe.auditing.notation import (
    counted,
    fact_name,
    in_words,
    number,
    one_line,
    value_and_error,
)
from geomprobe.auditing.report import AuditReport, listed, table
from geomprobe.findings import Estimate, metric_name
from geomprobe.values import ByValue

if TYPE_CHECKING:
    import pandas as pd

CAVEAT = (
    "z = (b - a) / sqrt(se_a² + se_b²) takes the two reports as independent. Where they share "
    "probe data their errors go together, and z is usually too small; and among many numbers some "
    "exceed 2 by chance."
)
_COLUMNS = ("analyzer", "subject", "stat", "a", "b", "difference", "stderr", "z", "note")


@dataclass(frozen=True, eq=False)
class Difference(ByValue):
    """One number in two reports.

    Parameters
    ----------
    analyzer, subject, stat : str
        Which number.
    a, b : Estimate
        What either report says.
    """

    analyzer: str
    subject: str
    stat: str
    a: Estimate
    b: Estimate

    @property
    def value(self) -> float:
        """``b - a``; NaN where either is undefined or both are the same infinity."""
        return self.b.value - self.a.value

    @property
    def stderr(self) -> float:
        """Standard error of the difference of independent numbers; NaN where either is unknown."""
        return math.hypot(self.a.stderr, self.b.stderr)

    @property
    def z(self) -> float:
        """Difference in standard errors.

        Two numbers without any error are 0 apart where they are equal, and infinitely many standard
        errors apart where they are not.
        """
        if self.stderr != 0 or math.isnan(self.value):
            return self.value / self.stderr if self.stderr else math.nan
        return math.copysign(math.inf, self.value) if self.value else 0.0

    @property
    def note(self) -> str:
        """What makes the two hard to compare: other methods, and why either is undefined."""
        remarks = []
        if self.a.method != self.b.method:
            remarks.append(f"methods differ: {self.a.method or 'none'} / {self.b.method or 'none'}")
        for name, estimate in (("a", self.a), ("b", self.b)):
            if math.isnan(estimate.value):
                remarks.append(f"{name} undefined: {estimate.note}")
        return "; ".join(remarks)


@dataclass(frozen=True, eq=False)
class Comparison(ByValue):
    """Two reports, number by number.

    Parameters
    ----------
    differences : tuple of Difference
        The numbers that both reports hold, the largest ``|z|`` first and NaN last.
    only_in_a, only_in_b : tuple of str
        Metric names of the numbers that one report alone holds.
    failed : tuple of str
        Failed findings of either report, with their reasons.
    facts : mapping of str to (a, b)
        Facts in which the reports differ; None where one report lacks the fact.
    names : (str, str)
        What the reports are called.
    between : AuditReport, optional
        What lies between the two models, by :func:`between`, if they were given.
    """

    differences: tuple[Difference, ...]
    only_in_a: tuple[str, ...] = ()
    only_in_b: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    facts: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    names: tuple[str, str] = ("a", "b")
    between: AuditReport | None = None

    def __str__(self) -> str:
        return self.summary()

    def to_frame(self) -> pd.DataFrame:
        """Return the differences as rows, in the order of the comparison.

        The columns are analyzer, subject, stat, a, b, difference, stderr, z and note.
        """
        import pandas as pd

        rows = [
            (d.analyzer, d.subject, d.stat, d.a.value, d.b.value, d.value, d.stderr, d.z, d.note)
            for d in self.differences
        ]
        kinds = dict.fromkeys(("a", "b", "difference", "stderr", "z"), "float64")
        frame: pd.DataFrame = pd.DataFrame(rows, columns=list(_COLUMNS)).astype(kinds)
        return frame

    def summary(self) -> str:
        """Return the comparison as a table for the terminal, with what z does not know."""
        a, b = map(one_line, self.names)
        lines = [f"comparison of a = {a} with b = {b}"]
        if self.facts:
            lines += ["", "they differ in"]
            lines += [
                listed(f"{fact_name(name)}: {in_words(ours)} / {in_words(theirs)}")
                for name, (ours, theirs) in self.facts.items()
            ]
        if self.between is not None:
            lines += ["", "between a and b", *between_summary(self.between)]
        if self.differences:
            header = ("analyzer", "layer", "stat", "a", "b", "b - a", "error", "z", "note")
            rows = [header, *map(_row, self.differences)]
            lines += ["", *table(rows, right=(3, 4, 5, 7)), "", *textwrap.wrap(CAVEAT, 88)]
        else:
            lines += ["", "no number is in both reports"]
        for name, alone in ((a, self.only_in_a), (b, self.only_in_b)):
            if alone:
                lines += ["", f"only in {name}: {counted(len(alone), 'number')}"]
                lines += [listed(metric) for metric in alone]
        if self.failed:
            lines += ["", "failed", *(listed(reason) for reason in self.failed)]
        return "\n".join(lines)


def compare(
    a: AuditReport,
    b: AuditReport,
    *,
    names: tuple[str, str] = ("a", "b"),
    between: AuditReport | None = None,
) -> Comparison:
    """Compare two reports number by number.

    Parameters
    ----------
    a, b : AuditReport
        The differences are ``b - a``.
    names : (str, str)
        What to call the two in words, such as the names of their files.
    between : AuditReport, optional
        What lies between the two models, by :func:`between`.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError
        One of the two is no :class:`AuditReport`.

    Notes
    -----
    The standard error of a difference is ``sqrt(se_a² + se_b²)``, and ``z`` is the difference in
    units of it: the two-sample z statistic of independent estimates.
    """
    for name, report in (("a", a), ("b", b)):
        if not isinstance(report, AuditReport):
            raise TypeError(
                f"{name} must be an AuditReport, got {type(report).__name__}; read one with "
                "AuditReport.from_json(path)"
            )
    ours, theirs = dict(a.numbers()), dict(b.numbers())
    pairs = [Difference(*key[:3], ours[key], theirs[key]) for key in ours if key in theirs]
    metrics_a, metrics_b = a.metrics, b.metrics
    facts = {
        name: (a.facts.get(name), b.facts.get(name))
        for name in dict.fromkeys([*a.facts, *b.facts])
        if name not in ("seconds", "estimated_seconds") and a.facts.get(name) != b.facts.get(name)
    }
    return Comparison(
        differences=tuple(sorted(pairs, key=_by_z)),
        only_in_a=tuple(name for name in metrics_a if name not in metrics_b),
        only_in_b=tuple(name for name in metrics_b if name not in metrics_a),
        failed=tuple(_failures(names[0], a) + _failures(names[1], b)),
        facts=facts,
        names=(str(names[0]), str(names[1])),
        between=between,
    )


def _by_z(difference: Difference) -> float:
    return math.inf if math.isnan(difference.z) else -abs(difference.z)


def _row(d: Difference) -> tuple[str, ...]:
    return (
        d.analyzer,
        d.subject,
        d.stat,
        value_and_error(d.a)[0],
        value_and_error(d.b)[0],
        *value_and_error(_as_estimate(d)),
        _z_in_words(d.z),
        d.note,
    )


def _z_in_words(z: float) -> str:
    if math.isnan(z):
        return "–"
    return number(z, 3) if abs(z) >= 100 else f"{z:.2f}".replace("-", "−")


def _as_estimate(d: Difference) -> Estimate:
    exact = d.a.exact and d.b.exact
    return Estimate(d.value, d.stderr, exact=exact, note=d.note or "the difference is undefined")


def _failures(name: str, report: AuditReport) -> list[str]:
    return [
        f"{metric_name(f.analyzer, f.subject, '')[:-1]} in {name}: {f.failed}"
        for f in report.findings
        if f.failed is not None
    ]
