"""From a finding to its figures: chosen by the arrays that are there, whoever the analyzer is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from geomprobe.auditing import captions, svg
from geomprobe.auditing.notation import counted, number, one_line
from geomprobe.findings import Estimate, Finding
from geomprobe.storage import Array

MAX_BARS = 400  # of one dimension of one diagram
MAX_RANKS = 300  # of one spectrum
PROFILES_PER_FIGURE = 4
WIDE = 20.0


@dataclass(frozen=True)
class Figure:
    """A drawn chart.

    Parameters
    ----------
    kind : str
        What is drawn, as a slug.
    title : str
        Heading.
    caption : str
        What the data show, in plain text.
    svg : str
        The chart, as a whole SVG element in which every text is escaped.
    """

    kind: str
    title: str
    caption: str
    svg: str


def figures(finding: Finding) -> tuple[Figure, ...]:
    """Return every figure that the arrays of a finding allow; none for a finding without them."""
    drawings = (persistence_diagram, betti_curves, fisher_spectrum, effective_dimension)
    return tuple(figure for draw in drawings if (figure := draw(finding)) is not None)


def floats(finding: Finding, name: str, ndim: int) -> Array | None:
    """Return an array of a finding as float64; None where it is missing or of another kind."""
    array = finding.arrays.get(name)
    if array is None or array.ndim != ndim or array.dtype.kind not in "fiu":
        return None
    return array.astype(np.float64)


def diagrams(finding: Finding) -> dict[int, Array]:
    """Return the persistence diagrams of a finding by dimension, without the bars that hold NaN."""
    found = {
        dimension: bars
        for dimension, bars in _by_dimension(finding, "diagram_h", 2).items()
        if bars.shape[1] == 2
    }
    return {
        dimension: bars[np.isfinite(bars[:, 0]) & ~np.isnan(bars[:, 1])]
        for dimension, bars in found.items()
    }


# --- the figures --------------------------------------------------------------------------------


def persistence_diagram(finding: Finding) -> Figure | None:
    """Draw ``diagram_h0``, ``diagram_h1``, ...: a mark a bar at (birth, death), infinity on top."""
    by_dimension = diagrams(finding)
    if not by_dimension:
        return None
    every = np.concatenate(list(by_dimension.values()))
    scale = svg.Scale.of(every[np.isfinite(every)], [0.0])
    panel = svg.Panel(44, 44, 256, 226, scale, scale)
    roof = svg.Panel(44, 20, 256, 1, scale, svg.Scale(0, 1))  # where deaths at infinity lie
    parts = [
        svg.axes(panel, "birth", "death"),
        svg.rule(panel, (scale.low, scale.high), (scale.low, scale.high)),
        svg.rule(roof, (scale.low, scale.high), (0, 0), dashed=True),
        svg.text(38, 24.5, "∞", anchor="end"),
    ]
    entries, sentences = [], []
    for dimension, bars in by_dimension.items():
        kept = _most_persistent(bars)
        shape = svg.SHAPES[dimension % len(svg.SHAPES)]
        lasting = np.isinf(kept[:, 1])
        for where, which, heights in (
            (panel, ~lasting, kept[:, 1]),
            (roof, lasting, np.zeros(len(kept))),
        ):
            if which.any():
                parts.append(svg.points(where, kept[which, 0], heights[which], dimension, shape))
        entries.append((dimension, shape, f"H{captions.subscript(dimension)}"))
        sentences.append(captions.diagram(dimension, bars, len(kept)))
    parts.append(svg.legend(250, 252 - 15 * (len(entries) - 1), entries))
    return _figure("persistence", "Persistence diagram", finding, sentences, (310, 306), parts)


def betti_curves(finding: Finding) -> Figure | None:
    """Draw ``betti_h0``, ``betti_h1``, ... over ``betti_grid``, each on a scale of its own."""
    grid = floats(finding, "betti_grid", 1)
    if grid is None:
        return None
    curves = {
        dimension: curve
        for dimension, curve in _by_dimension(finding, "betti_h", 1).items()
        if len(curve) == len(grid) > 0
    }
    if not curves:
        return None
    x = svg.Scale.of(grid, pad=0)
    height = (236 - 26 * (len(curves) - 1)) / len(curves)
    parts, sentences = [], []
    for row, (dimension, curve) in enumerate(curves.items()):
        y = svg.Scale(0, svg.Scale.of(curve, [0, 1]).high)
        panel = svg.Panel(44, 34 + row * (height + 26), 256, height, x, y)
        last = row == len(curves) - 1
        label, ticks = f"β{captions.subscript(dimension)}", (5, 4 if len(curves) < 3 else 2)
        parts.append(svg.axes(panel, "scale" * last, label, counts=ticks, numbered=last))
        parts.append(svg.line(panel, grid, curve, dimension, steps=True))
        sentences.append(captions.betti_curve(dimension, grid, curve))
    return _figure("betti", "Betti curves", finding, sentences, (310, 306), parts)


def fisher_spectrum(finding: Finding) -> Figure | None:
    """Draw ``spectrum`` and ``empirical_spectrum`` against the rank, both axes logarithmic.

    Eigenvalues below ``size * eps`` of the largest, the rounding noise of a symmetric eigenvalue
    solver (as in ``numpy.linalg.matrix_rank``), are not drawn.
    """
    named = (("spectrum", "true Fisher", False), ("empirical_spectrum", "empirical Fisher", True))
    found = [(label, dashed, floats(finding, name, 1)) for name, label, dashed in named]
    spectra = [(label, dashed, s) for label, dashed, s in found if s is not None]
    if not spectra:
        return None
    clean = [_above_noise(spectrum) for _, _, spectrum in spectra]
    ranks = [np.arange(1, len(spectrum) + 1) for spectrum in clean]
    x, y = svg.Scale.of(*ranks, log=True, pad=0.02), svg.Scale.of(*clean, log=True)
    panel = svg.Panel(56, 30, 404, 230, x, y)
    parts = [svg.axes(panel, "rank", "eigenvalue")]
    entries, sentences = [], []
    for series, (label, dashed, _) in enumerate(spectra):
        drawn = _log_spaced(ranks[series])
        parts.append(
            svg.line(panel, ranks[series][drawn], clean[series][drawn], series, dashed=dashed)
        )
        entries.append((series, "dashed" if dashed else "line", label))
        sentences.append(captions.spectrum(label, clean[series]))
    parts.append(svg.legend(74, 248 - 15 * (len(entries) - 1), entries))
    return _figure("spectrum", "Fisher spectrum", finding, sentences, (470, 298), parts)


def effective_dimension(finding: Finding) -> Figure | None:
    """Draw ``local_curve`` and ``global_curve`` over ``n``, with the bands of their errors.

    A line marks ``n_used``, the n of the finding's numbers, where that is given. The curves diverge
    where n comes close to the smallest valid one, so an axis that would span more than a factor of
    ``WIDE`` is logarithmic.
    """
    n = floats(finding, "n", 1)
    if n is None or not len(n):
        return None
    curves = [
        (label, dashed, curve, floats(finding, f"{name}_stderr", 1))
        for name, label, dashed in (
            ("local_curve", "local", False),
            ("global_curve", "global", True),
        )
        if (curve := floats(finding, name, 1)) is not None and len(curve) == len(n)
    ]
    if not curves:
        return None
    bands = {
        series: (curve - stderr, curve + stderr)
        for series, (_, _, curve, stderr) in enumerate(curves)
        if stderr is not None and len(stderr) == len(n)
    }
    edges = [edge for band in bands.values() for edge in band]
    heights = np.concatenate([curve for _, _, curve, _ in curves])
    heights = heights[np.isfinite(heights)]
    low, high = np.min(heights, initial=np.inf), np.max(heights, initial=-np.inf)
    y = svg.Scale.of(heights, *edges, log=bool(low > 0 and high > WIDE * low))
    panel = svg.Panel(56, 46, 404, 214, svg.Scale.of(n, log=True, pad=0.02), y)
    parts = [svg.axes(panel, "number of data points n", "effective dimension")]
    parts += [svg.band(panel, n, low, high, series) for series, (low, high) in bands.items()]
    entries, sentences = [], []
    for series, (label, dashed, curve, _) in enumerate(curves):
        parts.append(svg.line(panel, n, curve, series, dashed=dashed))
        error = " ± standard error" if series in bands else ""
        entries.append((series, "dashed" if dashed else "line", label + error))
        sentences.append(captions.dimension_curve(label, n, curve))
    used = floats(finding, "n_used", 1)
    if used is not None and len(used) == 1 and n[0] <= used[0] <= n[-1]:
        parts += _upright(panel, used[0])
        sentences.append("The line marks the n of the numbers below.")
    parts.append(svg.legend(300, 12, entries))
    title = "Effective dimension against n"
    return _figure("dimension", title, finding, sentences, (470, 298), parts)


def layer_profiles(
    layers: Sequence[str], stats: dict[str, dict[str, Estimate]], noun: str = "layer"
) -> tuple[Figure, ...]:
    """Draw numbers across layers: a row a layer, a panel a number, bars of one standard error.

    Parameters
    ----------
    layers
        Rows from top to bottom.
    stats
        Estimates by layer, by name of the number. One that differs nowhere is not drawn.
    noun
        What a row is.
    """
    drawn = {
        stat: by_layer
        for stat, by_layer in stats.items()
        if len({e.value for e in by_layer.values() if np.isfinite(e.value)}) > 1
    }
    names = list(drawn)
    groups = [
        names[start : start + PROFILES_PER_FIGURE]
        for start in range(0, len(names), PROFILES_PER_FIGURE)
    ]
    return tuple(_profiles(layers, {name: drawn[name] for name in group}, noun) for group in groups)


def _profiles(layers: Sequence[str], stats: dict[str, dict[str, Estimate]], noun: str) -> Figure:
    rows = svg.Scale(len(layers) - 0.5, -0.5)
    labels = [_shortened(layer) for layer in layers]
    margin = 14 + 6.2 * max(map(len, labels))
    height = 18 * len(layers)
    parts = []
    for column, (stat, by_layer) in enumerate(stats.items()):
        index = [row for row, layer in enumerate(layers) if layer in by_layer]
        value = np.array([by_layer[layers[row]].value for row in index])
        error = np.nan_to_num([by_layer[layers[row]].stderr for row in index], posinf=0.0)
        scale = svg.Scale.of(value, value - error, value + error, pad=0.08)
        panel = svg.Panel(margin + column * 178, 26, 160, height, scale, rows)
        shown = labels if column == 0 else [""] * len(labels)
        parts += [
            svg.axes(panel, "", _shortened(stat), counts=(3, 0), names=shown),
            svg.whiskers(panel, value - error, value + error, index, 0),
            svg.points(panel, value, index, 0),
        ]
    size = (margin + len(stats) * 178, height + 50)
    caption = f"{', '.join(map(one_line, stats))} of {counted(len(layers), noun)}."
    drawing = svg.document(*size, f"Numbers across the {noun}s", caption, *parts)
    return Figure("profile", f"Across the {noun}s", caption, drawing)


# --- reading arrays -----------------------------------------------------------------------------


def _by_dimension(finding: Finding, prefix: str, ndim: int) -> dict[int, Array]:
    names = [re.fullmatch(f"{prefix}([0-9])", name) for name in finding.arrays]
    found = {int(match[1]): floats(finding, match[0], ndim) for match in names if match}
    return {k: array for k, array in sorted(found.items()) if array is not None}


def _most_persistent(bars: Array) -> Array:
    if len(bars) <= MAX_BARS:
        return bars
    longest = np.argsort(bars[:, 0] - bars[:, 1], kind="stable")[:MAX_BARS]
    return bars[np.sort(longest)]


def _above_noise(spectrum: Array) -> Array:
    """Replace by NaN what is no larger than the rounding noise of the largest eigenvalue."""
    largest = np.max(spectrum, initial=0.0, where=np.isfinite(spectrum))
    noise = largest * len(spectrum) * np.finfo(np.float64).eps
    return np.where(np.isfinite(spectrum) & (spectrum > noise), spectrum, np.nan)


def _log_spaced(ranks: Array) -> Array:
    if len(ranks) <= MAX_RANKS:
        return ranks - 1
    return np.unique(np.geomspace(1, len(ranks), MAX_RANKS).round().astype(int)) - 1


# --- putting figures together --------------------------------------------------------------------


def _figure(
    kind: str,
    title: str,
    finding: Finding,
    sentences: Iterable[str],
    size: tuple[float, float],
    parts: list[str],
) -> Figure:
    caption = " ".join(sentences)
    drawing = svg.document(*size, f"{title} of {one_line(finding.subject)}", caption, *parts)
    return Figure(kind, title, caption, drawing)


def _upright(panel: svg.Panel, x: float) -> list[str]:
    """Return a dashed line across the panel at x, with its n beside it."""
    (place, _) = panel.place(x, panel.y.high)[0]
    late = place > panel.left + 0.8 * panel.width
    return [
        svg.rule(panel, (x, x), (panel.y.low, panel.y.high), dashed=True),
        svg.text(
            place + (-5 if late else 5),
            panel.top + 12,
            f"n = {number(x)}",
            anchor="end" if late else "start",
        ),
    ]


def _shortened(name: str, most: int = 24) -> str:
    name = one_line(name)
    return name if len(name) <= most else "…" + name[1 - most :]
