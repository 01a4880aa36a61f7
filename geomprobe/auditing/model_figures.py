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
_RANKED = {
    "kernel": ("Spectrum of the tangent kernel", "eigenvalue over N"),
    "noise": ("Spectrum of the noise of gradients", "eigenvalue of the covariance"),
}


def model_figures(finding: Finding) -> tuple[Figure, ...]:
    """Return the figures that the arrays of a finding allow; none for one without them."""
    of_spectra = (_growth, _density, _counts, _ranked, _shares, _margins)
    of_paths = (_chains, _sensitivity, _variances, _spreading, _angles)
    return tuple(figure for draw in (*of_spectra, *of_paths) for figure in draw(finding))


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


def _ranked(finding: Finding) -> Iterator[Figure]:
    """Draw ``kernel_spectrum`` and ``noise_spectrum`` against the rank, both axes logarithmic."""
    for kind, (title, axis) in _RANKED.items():
        spectrum = floats(finding, f"{kind}_spectrum", 1)
        if spectrum is None or not (spectrum > 0).any():
            continue
        ranks = np.arange(1, len(spectrum) + 1)
        x, y = svg.Scale.of(ranks, log=True, pad=0.02), svg.Scale.of(spectrum, log=True)
        panel = svg.Panel(56, 30, 404, 230, x, y)
        parts = [svg.axes(panel, "rank", axis), svg.line(panel, ranks, spectrum, 0)]
        words = [
            f"{counted(len(spectrum), 'eigenvalue')} above rounding, from "
            f"{number(spectrum.max())} down to {number(spectrum.min())}."
        ]
        yield _figure(kind, title, finding, words, parts)


def _margins(finding: Finding) -> Iterator[Figure]:
    """Draw which share of ``margins`` is below each, and a line at 0."""
    found = floats(finding, "margins", 1)
    if found is None or not np.isfinite(found).any():
        return
    found = np.sort(found[np.isfinite(found)])
    share = np.arange(1, len(found) + 1) / len(found)
    panel = svg.Panel(56, 30, 404, 230, svg.Scale.of(found, [0.0]), svg.Scale(0.0, 1.04))
    parts = [
        svg.axes(panel, "margin", "share of samples"),
        svg.line(panel, found, share, 0, steps=True),
        svg.rule(panel, (0, 0), (0.0, 1.04), dashed=True),
    ]
    words = [
        f"Margins of {counted(len(found), 'sample')}, from {number(found[0])} to "
        f"{number(found[-1])}; those left of the dashed line are wrong."
    ]
    yield _figure("margins", "Margins", finding, words, parts)


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


def _sensitivity(finding: Finding) -> Iterator[Figure]:
    """Draw ``grid_values`` over ``grid_steps``, a curve for each of ``grid_localizations``."""
    steps, gammas = (floats(finding, f"grid_{name}", 1) for name in ("steps", "localizations"))
    values, errors = (floats(finding, f"grid_{name}", 2) for name in ("values", "stderrs"))
    if steps is None or gammas is None or values is None or errors is None:
        return
    if not values.shape == errors.shape == (len(steps), len(gammas)) or not values.size:
        return
    values, errors = values[:, : len(svg.SERIES)], errors[:, : len(svg.SERIES)]
    y = svg.Scale.of(values, values - errors, values + errors, [0.0])
    panel = svg.Panel(56, 30, 404, 230, svg.Scale.of(steps, log=True), y)
    parts = [svg.axes(panel, "step of the sampler", "local learning coefficient")]
    entries = []
    for series, (curve, error) in enumerate(zip(values.T, errors.T, strict=True)):
        parts.append(svg.band(panel, steps, curve - error, curve + error, series))
        parts.append(svg.line(panel, steps, curve, series))
        parts.append(svg.points(panel, steps, curve, series, svg.SHAPES[series]))
        entries.append((series, svg.SHAPES[series], f"γ = {number(gammas[series], 3)}"))
    parts.append(svg.legend(370, 218, entries))
    known = values[np.isfinite(values)]
    words = ["Undefined at every step and localization."]
    if len(known):
        words = [
            f"From {number(known.min(), 3)} to {number(known.max(), 3)} over these steps and "
            "localizations γ, with bands of one standard error. A number to believe hardly changes "
            "with the step."
        ]
    yield _figure("sensitivity", "Coefficient against its sampler", finding, words, parts)


def _variances(finding: Finding) -> Iterator[Figure]:
    """Draw ``explained_variance`` by component, beside ``walk_explained_variance``."""
    shares, walk = (floats(finding, f"{of}explained_variance", 1) for of in ("", "walk_"))
    if shares is None or walk is None or not len(shares) == len(walk) > 0:
        return
    at = np.arange(1, len(shares) + 1)
    y = svg.Scale.of(shares, walk, log=True)
    panel = svg.Panel(56, 30, 404, 230, svg.Scale.of(at, pad=0.02), y)
    parts = [
        svg.axes(panel, "principal direction", "share of the variance"),
        svg.line(panel, at, walk, 1, dashed=True),
        svg.line(panel, at, shares, 0),
        svg.points(panel, at, shares, 0),
        svg.legend(356, 44, [(0, "line", "path"), (1, "dashed", "random walk")]),
    ]
    words = [
        f"The first direction has {number(shares[0])} of the variance of the path; dashed, that of "
        f"a random walk of as many points, {number(walk[0])}."
    ]
    yield _figure("variances", "Principal directions of the path", finding, words, parts)


def _spreading(finding: Finding) -> Iterator[Figure]:
    """Draw ``root_mean_square_displacement`` over ``lags``, beside the square root of these."""
    lags, moved = floats(finding, "lags", 1), floats(finding, "root_mean_square_displacement", 1)
    if lags is None or moved is None or not len(lags) == len(moved) > 1:
        return
    if not (lags[0] > 0 and moved[0] > 0):
        return
    walk = moved[0] * np.sqrt(lags / lags[0])
    x, y = svg.Scale.of(lags, log=True, pad=0.02), svg.Scale.of(moved, walk, log=True)
    panel = svg.Panel(56, 30, 404, 230, x, y)
    parts = [
        svg.axes(panel, "lag, in steps", "distance"),
        svg.line(panel, lags, walk, 1, dashed=True),
        svg.line(panel, lags, moved, 0),
        svg.points(panel, lags, moved, 0),
        svg.legend(66, 44, [(0, "line", "path"), (1, "dashed", "random walk")]),
    ]
    exponent = finding.scalars.get("diffusion_exponent", Estimate.undefined("not given"))
    words = ["Root mean square distance of parameters so many steps apart."]
    if np.isfinite(exponent.value):
        words.append(f"It grows with the power {exponent} of the lag; a random walk, dashed, 0.5.")
    yield _figure("spreading", "Distance against time", finding, words, parts)


def _angles(finding: Finding) -> Iterator[Figure]:
    """Draw ``to_natural``, ``to_gradient`` and ``between`` over ``angle_steps``."""
    steps = floats(finding, "angle_steps", 1)
    labels = {
        "to_gradient": "update and gradient",
        "to_natural": "update and natural gradient",
        "between": "the two gradients",
    }
    found = {label: floats(finding, name, 1) for name, label in labels.items()}
    curves = {label: one for label, one in found.items() if one is not None}
    if steps is None or len(curves) < len(labels):
        return
    if not len(steps) or any(len(curve) != len(steps) for curve in curves.values()):
        return
    panel = svg.Panel(56, 30, 404, 230, svg.Scale.of(steps, pad=0.02), svg.Scale(0.0, 187.0))
    parts = [svg.axes(panel, "optimizer step", "degrees")]
    parts.append(svg.rule(panel, (panel.x.low, panel.x.high), (90, 90), dashed=True))
    for series, curve in enumerate(curves.values()):
        parts.append(svg.line(panel, steps, curve, series))
        parts.append(svg.points(panel, steps, curve, series, svg.SHAPES[series]))
    entries = [(series, svg.SHAPES[series], label) for series, label in enumerate(curves)]
    parts.append(svg.legend(276, 44, entries))
    words = ["Angles along the path; dashed, the right angle of directions that are unrelated."]
    yield _figure("angles", "Updates and steepest descent", finding, words, parts)


def _figure(
    kind: str, title: str, finding: Finding, sentences: list[str], parts: list[str]
) -> Figure:
    caption = " ".join(sentences)
    drawing = svg.document(*_SIZE, f"{title} of {one_line(finding.subject)}", caption, *parts)
    return Figure(kind, title, caption, drawing)
