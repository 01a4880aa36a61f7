"""From an AuditReport to one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geomprobe.auditing.figures import Figure, figures, layer_profiles
from geomprobe.auditing.layer_figures import across_layers, dimension_over_scales
from geomprobe.auditing.model_figures import model_figures
from geomprobe.auditing.notation import counted, spaced, value_and_error
from geomprobe.auditing.opening import anchor, opening
from geomprobe.auditing.pages import page, sort_key
from geomprobe.auditing.path_figures import path_figures
from geomprobe.auditing.region_figures import wall_distances
from geomprobe.auditing.scores import scored_numbers, scores_by_stat
from geomprobe.auditing.slice_figures import loss_contours
from geomprobe.auditing.topics import OTHER, TOPICS, topic_of
from geomprobe.diagnostics.published import PublishedScore
from geomprobe.findings import Estimate, Finding

if TYPE_CHECKING:
    from geomprobe.auditing.report import AuditReport

_MODEL = "model"
_LAYER = ("name", "type", "status", "reason", "points", "dimension", "aliases")


@dataclass(frozen=True)
class Number:
    """One row of a table of numbers, in words."""

    name: str
    value: str
    error: str
    n: str
    method: str
    note: str
    reading: str
    key: str
    error_key: str
    score: PublishedScore | None


@dataclass(frozen=True)
class Block:
    """A finding, ready to be set."""

    anchor: str
    title: str
    finding: Finding
    figures: tuple[Figure, ...]
    numbers: tuple[Number, ...]

    @property
    def method(self) -> str:
        """The method that all of several numbers share; empty where they have their own."""
        methods = {number.method for number in self.numbers}
        return methods.pop() if len(methods) == 1 and len(self.numbers) > 1 else ""


@dataclass(frozen=True)
class Section:
    """All blocks about one subject; ``layer`` is its row of the manifest, where it has one."""

    anchor: str
    title: str
    layer: Mapping[str, Any] | None
    blocks: tuple[Block, ...]

    @property
    def failed(self) -> bool:
        """Whether a finding of the section failed."""
        return any(block.finding.failed is not None for block in self.blocks)


@dataclass(frozen=True)
class Topic:
    """A part of the page: what its analyzers do not say, charts across layers, and findings."""

    anchor: str
    title: str
    caveats: tuple[tuple[str, str], ...]
    profiles: tuple[tuple[str, tuple[Figure, ...]], ...]
    sections: tuple[Section, ...]

    @property
    def failed(self) -> bool:
        """Whether a finding of the topic failed."""
        return any(section.failed for section in self.sections)


def render(report: AuditReport) -> str:
    """Return the report as an HTML document. The same report gives the same page, byte for byte."""
    scores = scores_by_stat()
    topics = tuple(_topics(report, scores))
    scored = scored_numbers(report, scores)
    return page(
        "report.html.jinja",
        report=report,
        manifest=_layers(report),
        title=str(report.facts.get("model", "Model")),
        sentences=opening(report),
        topics=topics,
        anchors={s.title: s.anchor for topic in reversed(topics) for s in topic.sections},
        scored=scored,
        unscored=_unscored(report, scores, bool(scored)),
    )


def sections(report: AuditReport) -> tuple[Section, ...]:
    """Return all findings of a report by subject, without the parts of a page."""
    analyzers = {finding.analyzer for finding in report.findings}
    return tuple(_sections(report, "subject", analyzers, scores_by_stat()))


def _layers(report: AuditReport) -> list[dict[str, Any]]:
    return [dict.fromkeys(_LAYER) | layer for layer in report.layers]


def _topics(report: AuditReport, scores: Mapping[str, PublishedScore]) -> Iterator[Topic]:
    """Yield the parts of the page that findings are about."""
    spoken_of = dict.fromkeys(finding.analyzer for finding in report.findings)
    for title in (*TOPICS, OTHER):
        analyzers = [name for name in spoken_of if topic_of(name) == title]
        if not analyzers:
            continue
        yield Topic(
            title.lower(),
            title,
            tuple(
                (_capitalized(name), report.caveats[name])
                for name in analyzers
                if name in report.caveats
            ),
            tuple(_profiles(report, analyzers)),
            tuple(_sections(report, title.lower(), analyzers, scores)),
        )


def _sections(
    report: AuditReport,
    topic: str,
    analyzers: Collection[str],
    scores: Mapping[str, PublishedScore],
) -> Iterator[Section]:
    """Layers in the order of the manifest, then other subjects, then the model as a whole."""
    rows = {str(layer["name"]): layer for layer in _layers(report)}
    findings = [
        (place, finding)
        for place, finding in enumerate(report.findings)
        if finding.analyzer in analyzers
    ]
    spoken_of = dict.fromkeys(finding.subject for _, finding in findings)
    layers = [name for name in rows if name in spoken_of and name != _MODEL]
    others = [name for name in spoken_of if name not in rows and name != _MODEL]
    model = [_MODEL] if _MODEL in spoken_of else []
    for index, subject in enumerate([*layers, *others, *model]):
        blocks = tuple(
            _block(report, place, finding, scores)
            for place, finding in findings
            if finding.subject == subject
        )
        yield Section(f"{topic}-{index}", subject, rows.get(subject), blocks)


def _block(
    report: AuditReport, place: int, finding: Finding, scores: Mapping[str, PublishedScore]
) -> Block:
    readings = report.readings.get(finding.analyzer, {})
    numbers = tuple(
        _number(stat, estimate, readings.get(stat, ""), scores.get(f"{finding.analyzer}/{stat}"))
        for stat, estimate in finding.scalars.items()
    )
    drawn = (
        *figures(finding),
        *model_figures(finding),
        *dimension_over_scales(finding),
        *wall_distances(finding),
        *loss_contours(finding),
        *path_figures(finding),
    )
    return Block(anchor(place), _capitalized(finding.analyzer), finding, drawn, numbers)


def _number(stat: str, estimate: Estimate, reading: str, score: PublishedScore | None) -> Number:
    value, error = value_and_error(estimate)
    n = "" if estimate.n is None else f"{estimate.n:,}"
    keys = sort_key(estimate.value), sort_key(estimate.stderr)
    return Number(stat, value, error, n, estimate.method, estimate.note, reading, *keys, score)


def _profiles(
    report: AuditReport, analyzers: Collection[str]
) -> Iterator[tuple[str, tuple[Figure, ...]]]:
    """Charts across layers by analyzer, for analyzers that speak of at least two layers."""
    stats: dict[str, dict[str, dict[str, Estimate]]] = {}
    for (analyzer, subject, stat, repeat), estimate in report.numbers():
        if analyzer in analyzers and subject != _MODEL and repeat == 0:
            stats.setdefault(analyzer, {}).setdefault(stat, {})[subject] = estimate
    order = [str(layer.get("name")) for layer in report.layers]
    for analyzer, by_stat in stats.items():
        spoken_of = {layer for by_layer in by_stat.values() for layer in by_layer}
        layers = [name for name in order if name in spoken_of]
        if not order:
            layers = list(dict.fromkeys(n for by_layer in by_stat.values() for n in by_layer))
        if len(layers) < 2:
            continue
        own = [finding for finding in report.findings if finding.analyzer == analyzer]
        charts = (*across_layers(layers, own, by_stat), *layer_profiles(layers, by_stat))
        if charts:
            yield spaced(analyzer), charts


def _unscored(report: AuditReport, scores: Mapping[str, PublishedScore], some: bool) -> str:
    """Say what no score card tells."""
    numbers = [f"{analyzer}/{stat}" for (analyzer, _, stat, _), _ in report.numbers()]
    without = sum(name not in scores for name in numbers)
    every = counted(len(numbers), "number")
    if not some:
        return (
            "No number of this report has been scored yet: none is claimed to predict "
            "generalization."
        )
    return (
        f"{without:,} of {every} have not been scored: of these nothing "
        "is known about how well they predict generalization."
    )


def _capitalized(analyzer: str) -> str:
    name = spaced(analyzer)
    return name[:1].upper() + name[1:]
