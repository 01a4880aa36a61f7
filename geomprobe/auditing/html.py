"""From an AuditReport to one HTML page that needs no other file, no script and no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import geomprobe
from geomprobe.auditing.figures import Figure, figures, layer_profiles
from geomprobe.auditing.layer_figures import across_layers, dimension_over_scales
from geomprobe.auditing.model_figures import model_figures
from geomprobe.auditing.notation import fact_name, in_words, legible, spaced, value_and_error
from geomprobe.auditing.opening import anchor, opening
from geomprobe.auditing.region_figures import wall_distances
from geomprobe.auditing.slice_figures import loss_contours
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


def render(report: AuditReport) -> str:
    """Return the report as an HTML document. The same report gives the same page, byte for byte."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fact_name"] = fact_name
    environment.filters["in_words"] = in_words
    environment.filters["spaced"] = spaced
    environment.filters["svg"] = Markup  # figures escape every text that they hold
    sections = tuple(_sections(report))
    page = environment.get_template("report.html.jinja").render(
        report=report,
        manifest=_layers(report),
        version=geomprobe.__version__,
        title=str(report.facts.get("model", "Model")),
        sentences=opening(report),
        layers=[section for section in sections if section.title != _MODEL],
        model=[section for section in sections if section.title == _MODEL],
        anchors={section.title: section.anchor for section in sections},
        profiles=tuple(_profiles(report)),
    )
    return page.encode("utf-8", "replace").decode()


def _layers(report: AuditReport) -> list[dict[str, Any]]:
    return [dict.fromkeys(_LAYER) | layer for layer in report.layers]


def _sections(report: AuditReport) -> Iterator[Section]:
    """Layers in the order of the manifest, then other subjects, then the model as a whole."""
    rows = {str(layer["name"]): layer for layer in _layers(report)}
    spoken_of = dict.fromkeys(finding.subject for finding in report.findings)
    layers = [name for name in rows if name in spoken_of and name != _MODEL]
    others = [name for name in spoken_of if name not in rows and name != _MODEL]
    model = [_MODEL] if _MODEL in spoken_of else []
    for index, subject in enumerate([*layers, *others, *model]):
        blocks = tuple(
            _block(report, place, finding)
            for place, finding in enumerate(report.findings)
            if finding.subject == subject
        )
        yield Section(f"section-{index}", subject, rows.get(subject), blocks)


def _block(report: AuditReport, place: int, finding: Finding) -> Block:
    readings = report.readings.get(finding.analyzer, {})
    numbers = tuple(
        _number(stat, estimate, readings.get(stat, ""))
        for stat, estimate in finding.scalars.items()
    )
    title = spaced(finding.analyzer)
    title = title[:1].upper() + title[1:]
    drawn = (
        *figures(finding),
        *model_figures(finding),
        *dimension_over_scales(finding),
        *wall_distances(finding),
        *loss_contours(finding),
    )
    return Block(anchor(place), title, finding, drawn, numbers)


def _number(stat: str, estimate: Estimate, reading: str) -> Number:
    value, error = value_and_error(estimate)
    n = "" if estimate.n is None else f"{estimate.n:,}"
    return Number(stat, value, error, n, estimate.method, estimate.note, reading)


def _profiles(report: AuditReport) -> Iterator[tuple[str, tuple[Figure, ...]]]:
    """Charts across layers by analyzer, for analyzers that speak of at least two layers."""
    stats: dict[str, dict[str, dict[str, Estimate]]] = {}
    for (analyzer, subject, stat, repeat), estimate in report.numbers():
        if subject != _MODEL and repeat == 0:
            stats.setdefault(analyzer, {}).setdefault(stat, {})[subject] = estimate
    order = [str(layer.get("name")) for layer in report.layers]
    for analyzer, by_stat in stats.items():
        spoken_of = {layer for by_layer in by_stat.values() for layer in by_layer}
        known = [name for name in order if name in spoken_of]
        layers = known or list(dict.fromkeys(n for by_layer in by_stat.values() for n in by_layer))
        if len(layers) < 2:
            continue
        own = [finding for finding in report.findings if finding.analyzer == analyzer]
        charts = (*across_layers(layers, own, by_stat), *layer_profiles(layers, by_stat))
        if charts:
            yield spaced(analyzer), charts


def _shown(value: Any) -> Any:
    if isinstance(value, Markup) or not isinstance(value, str):
        return "" if value is None else value
    return legible(value)
