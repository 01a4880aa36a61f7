"""Two or more reports side by side, and the order of checkpoints of one family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

from geomprobe.auditing.between_models import between_summary
from geomprobe.auditing.comparison import Difference
from geomprobe.auditing.notation import in_words, one_line, with_error
from geomprobe.auditing.report import AuditReport, listed, table
from geomprobe.findings import Estimate, metric_name
from geomprobe.storage import PathLike, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from geomprobe.diagnostics import PublishedScore

_TOLD_APART = 2.0  # Standard errors of a difference.


@dataclass(frozen=True)
class Row:
    """One number in every report.

    Parameters
    ----------
    analyzer, subject, stat : str
        Which number.
    estimates : tuple of Estimate or None
        What each report says; None where it does not hold the number.
    repeat : int
        How many numbers of this name come before it in a report.
    """

    analyzer: str
    subject: str
    stat: str
    estimates: tuple[Estimate | None, ...]
    repeat: int = 0

    @property
    def metric(self) -> str:
        """The number's name, without ``geom/``."""
        name = metric_name(self.analyzer, self.subject, self.stat).removeprefix("geom/")
        return f"{name}#{self.repeat}" if self.repeat else name

    @cached_property
    def largest_z(self) -> float:
        """The largest difference of two reports in standard errors; NaN where none is known."""
        known = [estimate for estimate in self.estimates if estimate is not None]
        apart = [abs(self._difference(a, b).z) for a, b in combinations(known, 2)]
        return max((z for z in apart if not math.isnan(z)), default=math.nan)

    def told_apart(self, i: int, j: int) -> bool:
        """Whether two reports differ by more than two standard errors."""
        a, b = self.estimates[i], self.estimates[j]
        return a is not None and b is not None and abs(self._difference(a, b).z) > _TOLD_APART

    def _difference(self, a: Estimate, b: Estimate) -> Difference:
        return Difference(self.analyzer, self.subject, self.stat, a, b)


@dataclass(frozen=True)
class Ranking:
    """Checkpoints in the order in which a scored diagnostic expects their generalization gaps.

    Parameters
    ----------
    row : Row
    score : PublishedScore
        What such an order has been worth.
    order : tuple of int
        Places of the reports, the smallest expected gap first.
    """

    row: Row
    score: PublishedScore
    order: tuple[int, ...]

    def in_words(self, names: Sequence[str]) -> str:
        """Return the names in order, with ``≈`` between neighbours that are not told apart."""
        words = names[self.order[0]]
        for before, after in zip(self.order, self.order[1:], strict=False):
            words += (" < " if self.row.told_apart(before, after) else " ≈ ") + names[after]
        return words


@dataclass(frozen=True)
class Checkpoints:
    """Reports side by side.

    Parameters
    ----------
    reports : tuple of AuditReport
        Two at least, in the order in which they are to be shown.
    names : tuple of str
        What they are called, each by another name.
    between : AuditReport, optional
        What lies between their models, by :func:`between`.

    Raises
    ------
    TypeError
        Something else than reports.
    ValueError
        Fewer than two, or names that are not one a report.
    """

    reports: tuple[AuditReport, ...]
    names: tuple[str, ...]
    between: AuditReport | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reports", tuple(self.reports))
        object.__setattr__(self, "names", tuple(map(one_line, self.names)))
        for report in self.reports:
            if not isinstance(report, AuditReport):
                raise TypeError(
                    f"expected AuditReports, got {type(report).__name__}; read one with "
                    "AuditReport.from_json(path)"
                )
        if len(self.reports) < 2 or len(set(self.names)) < len(self.names):
            raise ValueError(
                f"give two reports or more, each with a name of its own, got {list(self.names)}"
            )
        if len(self.names) != len(self.reports):
            raise ValueError(f"{len(self.names)} names for {len(self.reports)} reports")

    def __str__(self) -> str:
        return self.summary()

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every number that two reports hold at least, the largest difference first, NaN last."""
        held = [dict(report.numbers()) for report in self.reports]
        keys = dict.fromkeys(key for numbers in held for key in numbers)
        rows = [
            Row(*key[:3], tuple(numbers.get(key) for numbers in held), repeat=key[3])
            for key in keys
            if sum(key in numbers for numbers in held) > 1
        ]
        return tuple(sorted(rows, key=_by_z))

    @cached_property
    def why_no_family(self) -> str:
        """Why these are no checkpoints of one architecture; empty where they are."""
        first = self.reports[0]
        for name, report in zip(self.names[1:], self.reports[1:], strict=True):
            for fact in ("model", "parameters"):
                ours, theirs = first.facts.get(fact), report.facts.get(fact)
                if ours != theirs:
                    return f"{self.names[0]} has {fact} {in_words(ours)}, {name} {in_words(theirs)}"
            if _architecture(report) != _architecture(first):
                return f"the layers of {name} are not those of {self.names[0]}"
        return ""

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """An order for every scored diagnostic of the model; none if these are no one family."""
        from geomprobe.auditing.scores import scores_by_stat

        if self.why_no_family:
            return ()
        scores = scores_by_stat()
        found = []
        for row in self.rows:
            score = scores.get(f"{row.analyzer}/{row.stat}")
            values = [math.nan if e is None else e.value for e in row.estimates]
            if score is None or row.subject != "model" or any(map(math.isnan, values)):
                continue
            gaps = [score.sign * value for value in values]
            order = sorted(range(len(gaps)), key=gaps.__getitem__)
            found.append(Ranking(row, score, tuple(order)))
        return tuple(found)

    @property
    def ranking_in_words(self) -> str:
        """Why there is no ranking, or how to take it."""
        if self.why_no_family:
            return f"Not ranked, for they are not of one family: {self.why_no_family}."
        if not self.rankings:
            return "Not ranked: no number of the model that all reports hold has a score card."
        return (
            "The smallest expected gap first; ≈ stands between neighbours that are not told apart, "
            "within two standard errors or without any. An order is worth what the score card "
            "beside it says, on models of one family."
        )

    def ranking_summary(self) -> str:
        """Return how the checkpoints rank, in a line for each diagnostic that has a score card."""
        lines = [self.ranking_in_words]
        for ranking in self.rankings:
            words = f"{ranking.row.metric}: {ranking.in_words(self.names)}"
            lines.append(listed(f"{words} ({ranking.score})"))
        return "\n".join(lines)

    def summary(self) -> str:
        """Return the numbers, and how the checkpoints rank, as a table for the terminal."""
        lines = [f"{len(self.reports)} reports side by side", "", self.ranking_summary()]
        if self.between is not None:
            lines += ["", "between them", *between_summary(self.between)]
        if self.rows:
            header = ("analyzer", "layer", "stat", *self.names, "largest z")
            cells = [
                (
                    *(row.analyzer, row.subject, row.stat),
                    *map(_in_words, row.estimates),
                    "–" if math.isnan(row.largest_z) else f"{row.largest_z:.2f}",
                )
                for row in self.rows
            ]
            right = tuple(range(3, 4 + len(self.names)))
            lines += ["", *table([header, *cells], right=right)]
        else:
            lines += ["", "no number is in two reports"]
        return "\n".join(lines)

    def to_html(self, path: PathLike) -> Path:
        """Write the reports side by side as one HTML file that needs no other."""
        from geomprobe.auditing.checkpoint_page import render

        return write_atomically(path, render(self).encode())


def _architecture(report: AuditReport) -> list[tuple[object, ...]]:
    return [(row.get("name"), row.get("type"), row.get("dimension")) for row in report.layers]


def _by_z(row: Row) -> float:
    return math.inf if math.isnan(row.largest_z) else -row.largest_z


def _in_words(estimate: Estimate | None) -> str:
    return "–" if estimate is None else with_error(estimate)
