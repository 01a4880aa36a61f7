"""Figures of the dimension of layers over scales and over depth, and of their similarity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from geomprobe.auditing import svg
from geomprobe.auditing.figures import Figure, floats
from geomprobe.auditing.heat_map import cells, cells_legend
from geomprobe.auditing.notation import counted, number, one_line
from geomprobe.findings import Estimate, Finding
from geomprobe.storage import Array

#: What is drawn over depth together, each in the unit of dimensions, and how it is called.
DIMENSIONS = {
    "two_nn": "TwoNN",
    "levina_bickel": "Levina–Bickel",
    "participation_ratio": "participation ratio",
    "rank_me": "RankMe",
}
WIDE = 8.0

_LONGEST_NAME = 24
_APART = 0.09  # Of a layer, between the marks of two numbers.


def dimension_over_scales(finding: Finding) -> tuple[Figure, ...]:
    """Draw ``gride`` over ``scales``, with the band of ``gride_stderr``."""
    scales, found = floats(finding, "scales", 1), floats(finding, "gride", 1)
    if scales is None or found is None or not len(scales) == len(found) > 0:
        return ()
    stderr = floats(finding, "gride_stderr", 1)
    error = np.full(len(found), np.nan) if stderr is None or len(stderr) != len(found) else stderr
    low, high = found - error, found + error
    x, y = svg.Scale.of(scales, log=True), svg.Scale.of(found, low, high, [0.0])
    panel = svg.Panel(44, 34, 256, 226, x, y)
    parts = [
        svg.axes(panel, "mean distance of neighbours", "dimension"),
        svg.band(panel, scales, low, high, 0),
        svg.line(panel, scales, found, 0),
        svg.points(panel, scales, found, 0),
    ]
    known = np.flatnonzero(np.isfinite(found))
    caption = "Undefined at every scale."
    if len(known):
        ends = f"{number(found[known[0]], 3)} at the smallest scale, {number(found[known[-1]], 3)}"
        caption = f"Intrinsic dimension by Gride: {ends} at the largest; the band is one error."
    title = "Dimension over scales"
    drawing = svg.document(310, 306, f"{title} of {one_line(finding.subject)}", caption, *parts)
    return (Figure("scales", title, caption, drawing),)


def across_layers(
    layers: Sequence[str], findings: Sequence[Finding], stats: Mapping[str, Mapping[str, Estimate]]
) -> tuple[Figure, ...]:
    """Return the figures that one analyzer's findings about several layers allow.

    Parameters
    ----------
    layers
        In the order of the model.
    findings
        Of one analyzer, in its order.
    stats
        Its estimates by layer, by name of the number.
    """
    return (*_dimension_profile(layers, stats), *_similarity(findings))


def _dimension_profile(
    layers: Sequence[str], stats: Mapping[str, Mapping[str, Estimate]]
) -> Iterator[Figure]:
    """Draw the dimensions of layers over their depth, with bars of one standard error."""
    named = [name for name in DIMENSIONS if name in stats]
    if "two_nn" not in named:
        return
    values, errors = (
        np.array([[_read(stats[name].get(layer), what) for layer in layers] for name in named])
        for what in ("value", "stderr")
    )
    errors = np.nan_to_num(errors)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return
    low = max(float(finite.min()), 1e-3)
    log = bool(finite.max() > WIDE * low)
    lowest = np.maximum(values - errors, low / 2 if log else -np.inf)
    y = svg.Scale.of(values, lowest, values + errors, log=log)
    panel = svg.Panel(44, 30, 416, 230, svg.Scale(0.5, len(layers) + 0.5), y)
    parts = [svg.axes(panel, "layer, in the order of the model", "dimension")]
    entries = []
    for series, name in enumerate(named):
        shape = svg.SHAPES[series]
        at = np.arange(1, len(layers) + 1) + _APART * (series - (len(named) - 1) / 2)
        bars = zip(at, lowest[series], (values + errors)[series], strict=True)
        parts += [
            svg.rule(panel, (x, x), (bottom, top))
            for x, bottom, top in bars
            if np.isfinite(bottom) and np.isfinite(top)
        ]
        parts.append(svg.line(panel, at, values[series], series))
        parts.append(svg.points(panel, at, values[series], series, shape))
        entries.append((series, shape, DIMENSIONS[name]))
    parts.append(svg.legend(474, 44, entries))
    caption = (
        f"Dimension of {counted(len(layers), 'layer')} over depth; bars are one standard error."
    )
    drawing = svg.document(620, 298, "Dimension over depth", caption, *parts)
    yield Figure("depth", "Dimension over depth", caption, drawing)


def _similarity(findings: Sequence[Finding]) -> Iterator[Figure]:
    """Draw the rows ``cka`` of findings as one matrix, a row and a column a layer."""
    rows = [(one.subject, row) for one in findings if (row := floats(one, "cka", 1)) is not None]
    if len(rows) < 2 or any(len(row) != len(rows) for _, row in rows):
        return
    matrix: Array = np.stack([row for _, row in rows])
    names = [f"{place}. {_shortened(name)}" for place, (name, _) in enumerate(rows, start=1)]
    side = max(120.0, min(28.0, 420.0 / len(rows)) * len(rows))
    margin = 14 + 6.2 * max(map(len, names))
    panel = svg.Panel(margin, 20, side, side, svg.Scale(0, len(rows)), svg.Scale(len(rows), 0))
    parts = [cells(panel, matrix, names), cells_legend(margin + side + 18, 26)]
    beside = np.diagonal(matrix, 1)
    caption = f"Linear CKA between {len(rows)} layers, debiased."
    if np.isfinite(beside).any():
        least = int(np.nanargmin(beside))
        pair = f"{one_line(rows[least][0])} and {one_line(rows[least + 1][0])}"
        caption += f" Least alike of neighbours: {pair}, {number(beside[least], 2)}."
    drawing = svg.document(margin + side + 70, side + 46, "Similarity of layers", caption, *parts)
    yield Figure("similarity", "Similarity of layers", caption, drawing)


def _read(estimate: Estimate | None, what: str) -> float:
    return float("nan") if estimate is None else float(getattr(estimate, what))


def _shortened(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
