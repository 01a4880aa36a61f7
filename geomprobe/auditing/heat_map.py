"""A matrix of numbers from 0 on as shaded cells, in SVG text as the other marks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geomprobe.auditing import svg
from geomprobe.auditing.notation import number
from geomprobe.storage import Array

_LEVELS = 12
_DARKEST = 0.6  # So that a number can be read on it, on light pages and on dark ones.
_MOST_NUMBERED = 12
_MOST_TICKS = 25


def cells(panel: svg.Panel, matrix: Array, names: Sequence[str], most: float = 1.0) -> str:
    """Return a shaded cell an entry, with its number where there are few; NaN is left empty.

    Parameters
    ----------
    panel
        Where: a unit of its scales is a cell, from the upper left.
    matrix : array of shape (n, n)
        What is below 0 is shaded as 0.
    names
        Labels of the rows. Columns have their numbers, from 1.
    most
        What is shaded darkest.
    """
    n = len(matrix)
    width, height = panel.width / n, panel.height / n
    levels = np.full(matrix.shape, -1)
    known = np.isfinite(matrix)
    levels[known] = (np.clip(matrix[known] / most, 0, 1) * _LEVELS).round().astype(int)
    shades = []
    for level in range(_LEVELS + 1):
        path = "".join(
            f"M{panel.left + column * width:.1f} {panel.top + row * height:.1f}"
            f"h{width:.1f}v{height:.1f}h{-width:.1f}z"
            for row, column in np.argwhere(levels == level)
        )
        if path:
            shades.append(_shade(path, level / _LEVELS))
    words = [
        svg.text(panel.left - 6, panel.top + (row + 0.5) * height + 3.5, name, anchor="end")
        for row, name in enumerate(names)
    ]
    words += [
        svg.text(
            panel.left + (column + 0.5) * width,
            panel.top + panel.height + 15,
            str(column + 1),
            anchor="middle",
        )
        for column in range(0, n, -(-n // _MOST_TICKS))
    ]
    if n <= _MOST_NUMBERED:
        words += [
            svg.text(
                panel.left + (column + 0.5) * width,
                panel.top + (row + 0.5) * height + 3.5,
                _short(matrix[row, column], most),
                anchor="middle",
            )
            for row, column in np.argwhere(known)
        ]
    return "".join(shades) + f'<g class="cells">{"".join(words)}</g>'


def cells_legend(x: float, y: float, most: float = 1.0) -> str:
    """Return what the shades of 0, one half of the most and all of it mean."""
    rows = []
    for place, value in enumerate((1.0, 0.5, 0.0)):
        top = y + 18 * place
        rows.append(_shade(f"M{x:.1f} {top:.1f}h14v14h-14z", value))
        rows.append(svg.text(x + 20, top + 11, number(value * most, 2)))
    return f'<g class="legend">{"".join(rows)}</g>'


def _short(value: float, most: float) -> str:
    """Write shares to two decimals, without the zero before the point."""
    if most != 1:
        return number(value, 2)
    return f"{value + 0.0:.2f}".replace("-", "−").replace("0.", ".", 1)


def _shade(path: str, value: float) -> str:
    return (
        f'<g style="color:var(--series-1,{svg.SERIES[0]})"><path class="cell" d="{path}" '
        f'fill="currentColor" fill-opacity="{_DARKEST * value:.2f}" stroke="currentColor" '
        'stroke-opacity=".12"/></g>'
    )
