"""From reports side by side to one HTML page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from geomprobe.auditing.figures import Figure, layer_profiles
from geomprobe.auditing.html import sections
from geomprobe.auditing.pages import page
from geomprobe.findings import metric_name

if TYPE_CHECKING:
    from geomprobe.auditing.checkpoints import Checkpoints

_MOST_DRAWN = 8
_TIMES = ("seconds", "estimated_seconds")


def render(compared: Checkpoints) -> str:
    """Return the page. The same reports give the same page, byte for byte."""
    return page(
        "checkpoints.html.jinja",
        compared=compared,
        names=compared.names,
        facts=list(_facts(compared)),
        failed=list(_failed(compared)),
        charts=_charts(compared),
        between=() if compared.between is None else sections(compared.between),
        caveats=() if compared.between is None else list(compared.between.caveats.items()),
    )


def _facts(compared: Checkpoints) -> Iterator[tuple[str, list[Any]]]:
    """Yield the facts in which the reports differ, but for times, and the model."""
    names = dict.fromkeys(name for report in compared.reports for name in report.facts)
    for name in names:
        values = [report.facts.get(name) for report in compared.reports]
        if name not in _TIMES and any(value != values[0] for value in values):
            yield name, values
        elif name == "model":
            yield name, values[:1]


def _failed(compared: Checkpoints) -> Iterator[str]:
    for name, report in zip(compared.names, compared.reports, strict=True):
        for finding in report.findings:
            if finding.failed is not None:
                metric = metric_name(finding.analyzer, finding.subject, "")[:-1]
                yield f"{metric} in {name}: {finding.failed}"


def _charts(compared: Checkpoints) -> tuple[Figure, ...]:
    """Charts of the numbers that differ most."""
    drawn = {
        row.metric: {
            name: estimate
            for name, estimate in zip(compared.names, row.estimates, strict=True)
            if estimate is not None
        }
        for row in compared.rows[:_MOST_DRAWN]
    }
    return layer_profiles(compared.names, drawn, noun="report")
