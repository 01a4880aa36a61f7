"""Figures of the loss over a plane of parameters: contours, and a training path beside its null."""

from __future__ import annotations

from typing import Any

import numpy as np

from geomprobe.auditing import svg
from geomprobe.auditing.figures import Figure, floats
from geomprobe.auditing.notation import number, one_line
from geomprobe.findings import Finding
from geomprobe.landscape.slices import levels
from geomprobe.storage import Array

_LEVELS = 10


def loss_contours(finding: Finding) -> tuple[Figure, ...]:
    """Draw contours of ``slice_values`` over ``slice_x`` and ``slice_y``.

    And ``slice_path`` with ``slice_random_walk``, where there are such.
    """
    x, y = (floats(finding, f"slice_{name}", 1) for name in "xy")
    values = floats(finding, "slice_values", 2)
    if x is None or y is None or values is None or values.shape != (len(x), len(y)):
        return ()
    finite = values[np.isfinite(values)]
    if len(finite) < 4 or min(values.shape) < 2:
        return ()
    from contourpy import contour_generator  # It comes with matplotlib.

    panel = svg.Panel(56, 30, 330, 300, svg.Scale.of(x, pad=0), svg.Scale.of(y, pad=0))
    parts = [svg.axes(panel, "first direction", "second direction")]
    contours: Any = contour_generator(x, y, np.ma.masked_invalid(values.T))
    for height in levels(values, _LEVELS):
        lines = contours.lines(float(height))
        parts += [svg.line(panel, line[:, 0], line[:, 1], 0) for line in lines]
        if lines:
            longest = max(lines, key=len)
            (at, down) = panel.place(*longest[np.argmax(longest[:, 1])])[0]
            inside = max(down - 2, panel.top + 10)
            parts.append(svg.text(at, inside, number(float(height), 2), anchor="middle"))
    parts.append(svg.points(panel, [0.0], [0.0], 3, "diamond"))
    words = [
        f"Loss from {number(float(finite.min()))} to {number(float(finite.max()))}; the diamond is "
        "the model."
    ]
    entries = [(0, "line", "loss"), (3, "diamond", "model")]
    path, walk = floats(finding, "slice_path", 2), floats(finding, "slice_random_walk", 2)
    if path is not None and walk is not None and path.shape[1:] == walk.shape[1:] == (2,):
        parts.append(svg.line(panel, *_inside(panel, walk), 2, dashed=True))
        parts.append(svg.line(panel, *_inside(panel, path), 1))
        entries += [(1, "line", "path"), (2, "dashed", "random walk")]
        words.append(
            "The path of the training in its principal plane; dashed, what a random walk of as "
            "many points and the same variance draws in its own: a Lissajous curve."
        )
    parts.append(svg.legend(400, 44, entries))
    title, caption = "Loss over a plane", " ".join(words)
    drawing = svg.document(510, 372, f"{title} of {one_line(finding.subject)}", caption, *parts)
    return (Figure("contours", title, caption, drawing),)


def _inside(panel: svg.Panel, points: Array) -> tuple[Array, Array]:
    """Return the coordinates of points, NaN outside the panel."""
    x, y = points.T
    there = (panel.x.low <= x) & (x <= panel.x.high) & (panel.y.low <= y) & (y <= panel.y.high)
    return np.where(there, x, np.nan), np.where(there, y, np.nan)
