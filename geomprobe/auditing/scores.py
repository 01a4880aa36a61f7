"""Which numbers of a report are diagnostics that have been scored, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geomprobe.auditing.notation import counted, with_error
from geomprobe.auditing.opening import anchor
from geomprobe.diagnostics.measures import MEASURES
from geomprobe.diagnostics.published import PublishedScore, published_scores

if TYPE_CHECKING:
    from geomprobe.auditing.report import AuditReport

NOT_SCORED = "not scored"


@dataclass(frozen=True)
class ScoredNumber:
    """A row of the table of score cards.

    Parameters
    ----------
    score : PublishedScore
    here : str
        The number in this report: its value and error, or in how many layers there is one.
    target : str
        Anchor of the finding that holds it.
    """

    score: PublishedScore
    here: str
    target: str

    @property
    def anchor(self) -> str:
        """Anchor of the row."""
        return f"score-{self.score.measure}"

    @property
    def expected(self) -> str:
        """What is expected of models with a larger gap."""
        return "larger" if self.score.sign > 0 else "smaller"


def scores_by_stat() -> dict[str, PublishedScore]:
    """Return the scores that are shipped by ``analyzer/stat`` of the same quantity in a report."""
    return {
        MEASURES[name].stat: score
        for name, score in published_scores().items()
        if MEASURES[name].stat
    }


def scored_numbers(
    report: AuditReport, scores: Mapping[str, PublishedScore]
) -> tuple[ScoredNumber, ...]:
    """Return a row for each score whose number is in a report."""
    rows = []
    for stat, score in scores.items():
        analyzer, _, scalar = stat.partition("/")
        holding = [
            (place, finding.scalars[scalar])
            for place, finding in enumerate(report.findings)
            if finding.analyzer == analyzer and scalar in finding.scalars
        ]
        if not holding:
            continue
        place, estimate = holding[0]
        here = with_error(estimate) if len(holding) == 1 else ""
        rows.append(ScoredNumber(score, here or counted(len(holding), "number"), anchor(place)))
    return tuple(rows)
