"""Figures of what lies between models: the loss along ways, and a matrix of barriers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from geomprobe.auditing import svg
from geomprobe.auditing.figures import Figure, floats
from geomprobe.auditing.heat_map import cells, cells_legend
from geomprobe.auditing.notation import counted, number, one_line
from geomprobe.findings import Finding
from geomprobe.storage import Array

#: Ways between two models, each by the array ``path_<way>``, and how it is called.
WAYS = {
    "straight": "straight line",
    "aligned": "straight line, aligned",
    "curve": "trained curve",
}
_CELL = 46.0


def path_figures(finding: Finding) -> tuple[Figure, ...]:
    """Return the figures that the arrays of a finding allow; none for one without them."""
    return (*_losses(finding), *_barriers(finding))


def _losses(finding: Finding) -> Iterator[Figure]:
    """Draw ``path_straight``, ``path_aligned`` and ``path_curve`` over ``path_positions``.

    With the bands of ``path_<way>_stderr``, and dashed what is ``path_<way>_test``.
    """
    at = floats(finding, "path_positions", 1)
    if at is None or len(at) < 2:
        return

    def along(name: str) -> Array:
        found = floats(finding, f"path_{name}", 1)
        return np.full(len(at), np.nan) if found is None or len(found) != len(at) else found

    drawn = {way: losses for way in WAYS if np.isfinite(losses := along(way)).any()}
    if not drawn:
        return
    tests = {way: along(f"{way}_test") for way in drawn}
    y = svg.Scale.of(*drawn.values(), *tests.values())
    panel = svg.Panel(56, 30, 404, 230, svg.Scale(0, 1), y)
    parts, entries, words = [svg.axes(panel, "position on the way", "mean loss")], [], []
    for way, losses in drawn.items():
        series, error = list(WAYS).index(way), along(f"{way}_stderr")
        parts.append(svg.band(panel, at, losses - error, losses + error, series))
        parts.append(svg.line(panel, at, losses, series))
        entries.append((series, "line", WAYS[way]))
        if np.isfinite(tests[way]).any():
            parts.append(svg.line(panel, at, tests[way], series, dashed=True))
            entries.append((series, "dashed", f"{WAYS[way]}, test"))
        top = int(np.nanargmax(losses))
        highest = f"at most {number(losses[top], 3)}, at {number(at[top], 2)} of the way"
        words.append(f"{WAYS[way].capitalize()}: {highest}.")
    parts.append(svg.legend(474, 44, entries))
    caption = " ".join([*words, "From the model, at 0, to the other, at 1; bands are one error."])
    title = "Loss on the way"
    drawing = svg.document(650, 298, f"{title} to {one_line(finding.subject)}", caption, *parts)
    yield Figure("way", title, caption, drawing)


def _barriers(finding: Finding) -> Iterator[Figure]:
    """Draw ``barriers`` above the diagonal, and ``aligned_barriers`` below it."""
    above, below = (floats(finding, name, 2) for name in ("barriers", "aligned_barriers"))
    if above is None or below is None or not above.shape == below.shape == (len(above),) * 2:
        return
    matrix = np.where(np.triu(np.ones_like(above), 1) > 0, above, below)
    np.fill_diagonal(matrix, np.nan)
    known = matrix[np.isfinite(matrix)]
    if not len(known):
        return
    k, most = len(matrix), max(float(known.max()), 1e-300)
    side = min(_CELL, 420.0 / k) * k
    panel = svg.Panel(36, 20, side, side, svg.Scale(0, k), svg.Scale(k, 0))
    names = [str(place) for place in range(1, k + 1)]
    parts = [cells(panel, matrix, names, most=most), cells_legend(side + 54, 26, most=most)]
    caption = (
        f"Barriers between {counted(k, 'model')}, at most {number(most, 3)}: as they are above the "
        "diagonal, with their units matched below it. The notes say which is which."
    )
    title = "Barriers between models"
    drawing = svg.document(side + 130, side + 46, title, caption, *parts)
    yield Figure("barriers", title, caption, drawing)
