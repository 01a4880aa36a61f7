"""The few sentences that a report opens with, each built from the findings and linked to them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geomprobe.auditing.figures import Figure, diagrams, floats
from geomprobe.auditing.layer_figures import dimension_over_scales
from geomprobe.auditing.model_figures import model_figures
from geomprobe.auditing.notation import counted, number, spaced, value_and_error
from geomprobe.auditing.region_figures import wall_distances
from geomprobe.findings import Estimate, Finding

if TYPE_CHECKING:
    from geomprobe.auditing.report import AuditReport

MOST_SENTENCES = 3
TRACE_SHARE = 0.9


@dataclass(frozen=True)
class Sentence:
    """A sentence whose middle is a link.

    Parameters
    ----------
    before, link, after : str
        The words.
    target : str
        Where the link leads: an anchor of the page.
    """

    before: str
    link: str
    after: str
    target: str


def anchor(finding: int, figure: str = "") -> str:
    """Return the anchor of a finding by its place in the report, or of one of its figures."""
    return f"finding-{finding}" + (f"-{figure}" if figure else "")


def opening(report: AuditReport) -> tuple[Sentence, ...]:
    """Return the first three sentences that the findings allow, and what failed or is missing."""
    said = (
        most_persistent_loop,
        spectrum_concentration,
        effective_dimension,
        intrinsic_dimension,
        units_that_bend,
        curvature,
    )
    sentences = [sentence for say in said if (sentence := say(report.findings)) is not None]
    return (*sentences[:MOST_SENTENCES], *_coverage(report))


def most_persistent_loop(findings: tuple[Finding, ...]) -> Sentence | None:
    """Say which cloud holds the finite H1 bar with the largest ratio of death to birth.

    The ratio does not change with the scale of a layer's activations, so layers can be compared by
    it (Bobrowski and Skraba, 2023, "A universal null-distribution for topological data analysis").
    It is the number ``h1_death_birth_ratio`` of a finding, or else read off its diagram.
    """
    ratios = [_death_birth_ratio(finding) for finding in findings]
    known = [index for index, ratio in enumerate(ratios) if math.isfinite(ratio.value)]
    if not known:
        return None
    best = max(known, key=lambda index: ratios[index].value)
    close = [
        findings[index].subject
        for index in known
        if index != best and _within_two_errors(ratios[index], ratios[best])
    ]
    rivals = f", which does not tell it apart from layer {', '.join(close)}" if close else ""
    return Sentence(
        "The most persistent loop is in layer ",
        findings[best].subject,
        f": it dies at {_with_error(ratios[best])} times the scale of its birth{rivals}.",
        anchor(best, "persistence") if diagrams(findings[best]) else anchor(best),
    )


def _within_two_errors(a: Estimate, b: Estimate) -> bool:
    """Whether two numbers differ by at most two standard errors of their difference."""
    error = math.hypot(*(0.0 if math.isnan(e.stderr) else e.stderr for e in (a, b)))
    return abs(a.value - b.value) <= 2 * error


def spectrum_concentration(findings: tuple[Finding, ...]) -> Sentence | None:
    """Say how many eigenvalues hold nine tenths of the Fisher spectrum's sum."""
    for index, finding in enumerate(findings):
        spectrum = floats(finding, "spectrum", 1)
        if spectrum is None:
            continue
        values = np.sort(spectrum[np.isfinite(spectrum)].clip(min=0))[::-1]
        if not values.sum() > 0:
            continue
        held = 1 + int(np.searchsorted(np.cumsum(values), TRACE_SHARE * values.sum()))
        ratio = finding.scalars.get("participation_ratio")
        effective = "" if ratio is None else f" (participation ratio {_with_error(ratio)})"
        return Sentence(
            f"{held:,} of {counted(len(values), 'eigenvalue')} of the ",
            "Fisher spectrum",
            f" {'holds' if held == 1 else 'hold'} {TRACE_SHARE:.0%} of their sum{effective}.",
            anchor(index, "spectrum"),
        )
    return None


def effective_dimension(findings: tuple[Finding, ...]) -> Sentence | None:
    """Say what the local effective dimension is: the number ``local``, or the end of its curve."""
    for index, finding in enumerate(findings):
        n, curve = floats(finding, "n", 1), floats(finding, "local_curve", 1)
        if n is None or curve is None or len(n) != len(curve):
            continue
        local, where = finding.scalars.get("local"), ""
        known = np.flatnonzero(np.isfinite(curve))
        if local is None and len(known):
            stderr = floats(finding, "local_curve_stderr", 1)
            error = math.nan if stderr is None or len(stderr) != len(n) else stderr[known[-1]]
            local = Estimate(curve[known[-1]], error)
            where = f" at n = {number(n[known[-1]])}"
        if local is None:
            continue
        share = finding.scalars.get("local_normalized")
        per_parameter = "" if share is None else f", {_with_error(share)} per parameter"
        return Sentence(
            "The local ",
            "effective dimension",
            f" is {_with_error(local)}{where}{per_parameter}.",
            anchor(index, "dimension") if len(n) else anchor(index),
        )
    return None


def intrinsic_dimension(findings: tuple[Finding, ...]) -> Sentence | None:
    """Say which layer has the largest intrinsic dimension by TwoNN."""
    at = _largest(findings, "two_nn")
    if at is None:
        return None
    return Sentence(
        "The intrinsic dimension is largest in layer ",
        findings[at].subject,
        f": {_with_error(findings[at].scalars['two_nn'])} at the scale of nearest neighbours.",
        _figure_or_finding(at, "scales", dimension_over_scales(findings[at])),
    )


def units_that_bend(findings: tuple[Finding, ...]) -> Sentence | None:
    """Say how many units of the model bend near an input: the sum over layers is the largest."""
    at = _largest(findings, "local_complexity")
    if at is None:
        return None
    return Sentence(
        "Near an input ",
        "units that bend",
        f" number {_with_error(findings[at].scalars['local_complexity'])} on average.",
        _figure_or_finding(at, "walls", wall_distances(findings[at])),
    )


def curvature(findings: tuple[Finding, ...]) -> Sentence | None:
    """Say what the largest curvature of the loss is."""
    for at, finding in enumerate(findings):
        largest = finding.scalars.get("largest_eigenvalue")
        if largest is None or math.isnan(largest.value):
            continue
        if "hessian_density" in finding.arrays:
            return Sentence(
                "The largest ",
                "curvature of the loss",
                f" is {_with_error(largest)}.",
                _figure_or_finding(at, "density", model_figures(finding)),
            )
    return None


def _largest(findings: tuple[Finding, ...], stat: str) -> int | None:
    """Return the place of the finding with the largest finite number of a name."""
    known = {
        place: finding.scalars[stat].value
        for place, finding in enumerate(findings)
        if stat in finding.scalars and math.isfinite(finding.scalars[stat].value)
    }
    return max(known, key=lambda place: known[place], default=None)


def _figure_or_finding(place: int, kind: str, drawn: tuple[Figure, ...]) -> str:
    return anchor(place, kind if any(figure.kind == kind for figure in drawn) else "")


def _death_birth_ratio(finding: Finding) -> Estimate:
    if "h1_death_birth_ratio" in finding.scalars:
        return finding.scalars["h1_death_birth_ratio"]
    bars = diagrams(finding).get(1, np.empty((0, 2)))
    bars = bars[(bars[:, 0] > 0) & np.isfinite(bars[:, 1])]
    if not len(bars):
        return Estimate.undefined("no loop is born and dies")
    return Estimate(float(np.max(bars[:, 1] / bars[:, 0])), method="read off the diagram")


def _with_error(estimate: Estimate) -> str:
    value, error = value_and_error(estimate)
    if math.isnan(estimate.value):
        return value
    return f"{value} {error}" if error.startswith("±") else f"{value} (error: {error})"


def _coverage(report: AuditReport) -> Iterator[Sentence]:
    failed = [index for index, f in enumerate(report.findings) if f.failed is not None]
    if failed:
        first = report.findings[failed[0]]
        verb = "The analysis " if len(failed) == 1 else f"{len(failed):,} analyses failed, first "
        yield Sentence(
            verb,
            _name(first),
            " failed." if len(failed) == 1 else ".",
            anchor(failed[0]),
        )
    skipped = sum(layer.get("status") == "skipped" for layer in report.layers)
    if skipped:
        yield Sentence(
            "", counted(skipped, "layer"), " gave no cloud; the table says why.", "layers"
        )
    if report.facts.get("interrupted"):
        yield Sentence("The audit was ", "interrupted", ": it holds what was done.", "facts")


def _name(finding: Finding) -> str:
    of = "" if finding.subject == "model" else f" of {finding.subject}"
    return spaced(finding.analyzer) + of
