"""Figures of linear regions: how far inputs are from walls, and how many bend near them."""

from __future__ import annotations

import numpy as np

from geomprobe.auditing import svg
from geomprobe.auditing.figures import Figure, floats
from geomprobe.auditing.notation import counted, number, one_line
from geomprobe.findings import Finding

_MEANINGS = {
    "wall": "distance from the nearest wall of the activation region",
    "certified": "radius within which the decision is proved to stay",
}


def wall_distances(finding: Finding) -> tuple[Figure, ...]:
    """Draw what share of ``boundary_distances``, and of ``certified_radii``, is within each."""
    named = (("boundary_distances", "wall", False), ("certified_radii", "certified", True))
    found = [(label, dashed, floats(finding, name, 1)) for name, label, dashed in named]
    curves = [(label, dashed, c) for label, dashed, c in found if c is not None]
    drawn = [c[np.isfinite(c) & (c > 0)] for _, _, c in curves]
    if not any(map(len, drawn)):
        return ()
    panel = svg.Panel(
        56, 30, 404, 230, svg.Scale.of(*drawn, log=True, pad=0.02), svg.Scale(0.0, 1.04)
    )
    parts = [svg.axes(panel, "distance from an input", "share of inputs")]
    entries, words = [], []
    for series, ((label, dashed, curve), shown) in enumerate(zip(curves, drawn, strict=True)):
        # Those at distance 0 are to the left of a logarithmic axis.
        share = (np.count_nonzero(curve == 0) + np.arange(1, len(shown) + 1)) / len(curve)
        parts.append(svg.line(panel, np.sort(shown), share, series, dashed=dashed, steps=True))
        entries.append((series, "dashed" if dashed else "line", label))
        words.append(f"{_MEANINGS[label]}, median {number(float(np.median(curve)))}")
    parts.append(svg.legend(366, 218, entries))
    caption = f"Of {counted(len(curves[0][2]), 'input')}: {'; '.join(words)}."
    title = "Distance from the walls"
    drawing = svg.document(470, 298, f"{title} of {one_line(finding.subject)}", caption, *parts)
    return (Figure("walls", title, caption, drawing),)
