"""Figures of a model as a whole, by the arrays that its findings hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from geomprobe.auditing import svg
from geomprobe.auditing.figures import Figure, floats
from geomprobe.auditing.notation import counted, number, one_line
from geomprobe.findings import Estimate, Finding
from geomprobe.storage import Array

_SIZE = (470.0, 298.0)
_LEAST_DENSITY = 1e-6  # Of the highest, below which a density is not drawn.
_HALF = 0.5


def model_figures(finding: Finding) -> tuple[Figure, ...]:
    """Return the figures that the arrays of a finding allow; none for one without them."""
    drawings = (_growth, _density, _counts, _kernel, _shares, _chains)
    return tuple(figure for draw in drawings for figure in draw(finding))


def _growth(finding: Finding) -> Iterator[Figure]:
    """Draw ``local_by_inputs`` over ``inputs``, and the ``local_limit`` where it is known."""
    inputs, curve = floats(finding, "inputs", 1), floats(finding, "local_by_inputs", 1)
    if inputs is None or curve is None or not len(inputs) == len(curve) > 1:
        return
    stderr = floats(finding, "local_by_inputs_stderr", 1)
    error = np.full(len(curve), np.nan) if stderr is None or len(stderr) != len(curve) else stderr
    limit = finding.scalars.get("local_limit", Estimate.undefined("not given"))
    low, middle, high = limit.value + limit.stderr * np.array([[-1, -1], [0, 0], [1, 1]])
    x = svg.Scale.of(inputs, log=True, pad=0.02)
    y = svg.Scale.of(curve, curve - error, curve + error, low, middle, high, [0.0])
    panel = svg.Panel(56, 30, 404, 230, x, y)
    across = np.array([x.low, x.high])
    parts = [
        svg.axes(panel, "number of inputs N", "local effective dimension"),
        svg.band(panel, inputs, curve - error, curve + error, 0),
        svg.line(panel, inputs, curve, 0),
        svg.points(panel, inputs, curve, 0),
        svg.band(panel, across, low, high, 1),
        svg.line(panel, across, middle, 1, dashed=True),
    ]
    known = np.isfinite(limit.value)
    words = [
        f"At the same n, from {number(curve[0])} with {number(inputs[0])} inputs to "
        f"{number(curve[-1])} with {number(inputs[-1])}.",
        f"Dashed, where it tends to by extrapolation: {limit}." if known else "No limit is known.",
    ]
    yield _figure("growth", "Effective dimension against inputs", finding, words, parts)


def _density(finding: Finding) -> Iterator[Figure]:
    """Draw ``hessian_density`` over ``hessian_grid``, and marks at ``hessian_largest``."""
    grid, density = (floats(finding, f"hessian_{name}", 1) for name in ("grid", "density"))
    if grid is None or density is None or not len(grid) == len(density) > 1:
        return
    top = float(np.max(density, initial=0.0, where=np.isfinite(density)))
    drawn = np.where(density > _LEAST_DENSITY * top, density, np.nan)
    largest = floats(finding, "hessian_largest", 1)
    marks = np.empty(0) if largest is None else largest
    x, y = svg.Scale.of(grid, marks, pad=0.02), svg.Scale.of(drawn, log=True)
    panel = svg.Panel(56, 30, 404, 230, x, y)
    parts = [
        svg.axes(panel, "eigenvalue of the Hessian", "density"),
        svg.line(panel, grid, drawn, 0),
    ]
    shown = drawn > 0
    words = ["The density shows no eigenvalues."]
    if shown.any():
        low, high = number(grid[shown].min()), number(grid[shown].max())
        words = [f"Smoothed spectrum, from {low} to {high}, on a logarithmic axis."]
    if len(marks):
        parts.append(svg.points(panel, marks, np.full(len(marks), y.low * 1.15), 1, "triangle"))
        words.append(f"Triangles: the {counted(len(marks), 'largest eigenvalue')}.")
    if x.low < 0 < x.high:
        parts.append(svg.rule(panel, (0, 0), (y.low, y.high), dashed=True))
    yield _figure("density", "Spectral density", finding, words, parts)


def _counts(finding: Finding) -> Iterator[Figure]:
    """Draw ``effective_parameters_curve`` over ``z``, with the band of its error."""
    z, curve = floats(finding, "z", 1), floats(finding, "effective_parameters_curve", 1)
    if z is None or curve is None or not len(z) == len(curve) > 0:
        return
    stderr = floats(finding, "effective_parameters_stderr", 1)
    error = np.full(len(z), np.nan) if stderr is None or len(stderr) != len(z) else stderr
    y = svg.Scale.of(curve, curve - error, curve + error, [0.0])
    panel = svg.Panel(56, 30, 404, 230, svg.Scale.of(z, log=True, pad=0.02), y)
    parts = [
        svg.axes(panel, "regularisation z", "effective parameters"),
        svg.band(panel, z, curve - error, curve + error, 0),
        svg.line(panel, z, curve, 0),
    ]
    told = np.flatnonzero(np.isfinite(curve))
    words = ["No regularisation is large enough for products to tell."]
    if len(told):
        ends = (f"{number(curve[at])} at z = {number(z[at])}" for at in told[[0, -1]])
        words = [f"Directions that bend more than z: {', '.join(ends)}."]
        words.append("The band is one standard error.")
    yield _figure("counts", "Effective parameters against z", finding, words, parts)


def _kernel(finding: Finding) -> Iterator[Figure]:
    """Draw ``kernel_spectrum`` against the rank, both axes logarithmic."""
    spectrum = floats(finding, "kernel_spectrum", 1)
    if spectrum is None or not (spectrum > 0).any():
        return
    ranks = np.arange(1, len(spectrum) + 1)
    x, y = svg.Scale.of(ranks, log=True, pad=0.02), svg.Scale.of(spectrum, log=True)
    panel = svg.Panel(56, 30, 404, 230, x, y)
    parts = [svg.axes(panel, "rank", "eigenvalue over N"), svg.line(panel, ranks, spectrum, 0)]
    words = [
        f"{counted(len(spectrum), 'eigenvalue')} above rounding, from {number(spectrum.max())} "
        f"down to {number(spectrum.min())}."
    ]
    yield _figure("kernel", "Spectrum of the tangent kernel", finding, words, parts)


def _shares(finding: Finding) -> Iterator[Figure]:
    """Draw ``label_share`` and ``kernel_share`` over the number of leading eigenvectors."""
    named = (("label_share", "targets", False), ("kernel_share", "kernel", True))
    found = [(label, dashed, floats(finding, name, 1)) for name, label, dashed in named]
    curves = [(label, dashed, c) for label, dashed, c in found if c is not None and len(c)]
    if len(curves) < len(named):
        return
    longest = max(len(curve) for _, _, curve in curves)
    x = svg.Scale.of([1, max(longest, 2)], log=True, pad=0.02)
    panel = svg.Panel(56, 30, 404, 230, x, svg.Scale(0.0, 1.04))
    parts = [svg.axes(panel, "leading eigenvectors of the kernel of inputs", "share held")]
    entries, words = [], []
    for series, (label, dashed, curve) in enumerate(curves):
        parts.append(svg.line(panel, np.arange(1, len(curve) + 1), curve, series, dashed=dashed))
        entries.append((series, "dashed" if dashed else "line", label))
        words.append(_half_held(label, curve))
    parts.append(svg.legend(366, 218, entries))
    yield _figure("shares", "Targets in the tangent kernel", finding, words, parts)


def _half_held(label: str, curve: Array) -> str:
    reached = np.flatnonzero(curve >= _HALF)
    if not len(reached):
        return f"The {label}: undefined."
    return f"Half of the {label}: in {counted(int(reached[0]) + 1, 'direction')}."


def _chains(finding: Finding) -> Iterator[Figure]:
    """Draw ``chain_losses``, a curve a chain, and ``initial_loss`` as a line."""
    losses, initial = floats(finding, "chain_losses", 2), floats(finding, "initial_loss", 1)
    if losses is None or initial is None or len(initial) != 1 or not losses.size:
        return
    stretch = floats(finding, "chain_steps", 1)
    stride = 1.0 if stretch is None or len(stretch) != 1 else stretch[0]
    shown = losses[: len(svg.SERIES)]
    at = stride * (np.arange(shown.shape[1]) + 0.5)
    x = svg.Scale.of([0.0], stride * shown.shape[1], pad=0)
    panel = svg.Panel(56, 30, 404, 230, x, svg.Scale.of(shown, initial))
    parts = [svg.axes(panel, "draw", "loss")]
    parts += [svg.line(panel, at, chain, series) for series, chain in enumerate(shown)]
    parts.append(svg.rule(panel, (x.low, x.high), (initial[0], initial[0]), dashed=True))
    some = "" if len(shown) == len(losses) else f" of {len(losses)}"
    words = [
        f"The losses of {len(shown)}{some} chains after their burn-in; the dashed line is the loss "
        f"at the parameters, {number(initial[0])}."
    ]
    yield _figure("chains", "Langevin chains", finding, words, parts)


def _figure(
    kind: str, title: str, finding: Finding, sentences: list[str], parts: list[str]
) -> Figure:
    caption = " ".join(sentences)
    drawing = svg.document(*_SIZE, f"{title} of {one_line(finding.subject)}", caption, *parts)
    return Figure(kind, title, caption, drawing)
