"""A small chart kernel: scales with round ticks, and marks written as SVG text.

Every mark takes data coordinates and returns SVG; what is NaN, or not positive on a logarithmic
scale, is left out. Colours are ``currentColor`` and the CSS variables ``--series-1`` ... of the
page around the chart, with defaults for a chart that stands alone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from geomprobe.auditing.notation import legible, number, power_of_ten
from geomprobe.storage import Array

#: Blue, vermilion, green and purple of Okabe and Ito (2008), which colour-blind readers tell apart.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#aa4499")
SHAPES = ("dot", "triangle", "square", "diamond")

_FONT = 'font-family="inherit" font-size="11"'
_SHAPE_PATHS = {"dot": "h0", "square": "h0", "triangle": "m0-3.5l3.2 6h-6.4z",
                "diamond": "m0-3.6l3.6 3.6-3.6 3.6-3.6-3.6z"}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """An interval of data, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def of(cls, *values: Any, log: bool = False, pad: float = 0.04) -> Scale:
        """Return the scale that holds all finite (on a logarithmic scale: positive) values.

        ``pad`` is the share of the interval left free at either end. One value, or none, still
        gives an interval.
        """
        every = np.concatenate([np.ravel(np.asarray(value, dtype=float)) for value in values])
        drawn = every[np.isfinite(every) & (every > 0 if log else True)].clip(-1e300, 1e300)
        low, high = (float(drawn.min()), float(drawn.max())) if drawn.size else (1.0, 1.0)
        largest = max(abs(low), abs(high))
        spread = high - low > max(1e-9 * largest, 1e-300)
        if log:
            room = (high / low) ** pad if spread else 2.0
            return cls(low / room, high * room, log=True)
        room = (high - low) * pad if spread else largest / 2 if largest > 1e-300 else 1.0
        return cls(low - room, high + room)

    def fraction(self, values: Any) -> Array:
        """Return where values lie in the interval, 0 to 1; NaN for what has no place."""
        data = np.asarray(values, dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.log:
                low, high = math.log(self.low), math.log(self.high)
                place = (np.where(data > 0, np.log(data), np.nan) - low) / (high - low)
            else:
                place = (data - self.low) / (self.high - self.low)
        return np.where(np.isfinite(place), place, np.nan)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Return at most about ``count`` round numbers in the interval, with their labels."""
        if not self.log:
            return _round_numbers(self.low, self.high, count)
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        if last - first < 2:
            few = [m * 10.0**e for e in range(first - 1, last + 1) for m in (1, 2, 5)]
            inside = [(value, number(value)) for value in few if self.low <= value <= self.high]
            return inside if len(inside) > 1 else _round_numbers(self.low, self.high, count)
        stride = math.ceil((last - first + 1) / count)
        plain = first >= -2 and last <= 4
        return [
            (10.0**e, number(10.0**e) if plain else power_of_ten(e))
            for e in range(first + (-first) % stride, last + 1, stride)
        ]


def _round_numbers(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """Multiples of 1, 2 or 5 times a power of ten, with as many decimals as tell them apart."""
    rough = (high - low) / count
    power = math.floor(math.log10(rough))
    steps = [m * 10.0**e for e in (power + 1, power, power - 1) for m in (5, 2, 1)]
    wide = [step for step in steps if step >= rough * (1 - 1e-9)]
    # The finest step that keeps to the count; a finer one where that leaves a single tick.
    for step in steps[len(wide) - 1 :]:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last > first:
            break
    values = [float(f"{k * step:.12g}") for k in range(first, last + 1)]
    largest = max(map(abs, values), default=0.0)
    if 1e-3 <= largest < 1e6:
        decimals = max(-math.floor(math.log10(step) + 1e-9), 0)
        return [(v, f"{v + 0.0:,.{decimals}f}".replace("-", "−")) for v in values]
    digits = 2 + math.floor(math.log10(largest)) - math.floor(math.log10(step)) if largest else 1
    return [(v, number(v, digits)) for v in values]


@dataclass(frozen=True)
class Panel:
    """A rectangle of the chart with a scale on each axis."""

    left: float
    top: float
    width: float
    height: float
    x: Scale
    y: Scale

    def place(self, x: Any, y: Any) -> Array:
        """Return where data points lie in the chart, shape (n, 2); NaN where they have no place."""
        across = self.left + self.width * self.x.fraction(x)
        down = self.top + self.height * (1 - self.y.fraction(y))
        return np.column_stack(np.broadcast_arrays(across, down))


# --- the frame ----------------------------------------------------------------------------------


def document(width: float, height: float, title: str, description: str, *parts: str) -> str:
    """Return a whole SVG, named and described for those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_r(width)} {_r(height)}" '
        f'width="{_r(width)}" height="{_r(height)}" role="img" {_FONT} fill="currentColor">'
        f"<title>{_escape(title)}</title><desc>{_escape(description)}</desc>{''.join(parts)}</svg>"
    )


def axes(
    panel: Panel,
    x_label: str = "",
    y_label: str = "",
    *,
    counts: tuple[int, int] = (5, 5),
    names: Sequence[str] | None = None,
    numbered: bool = True,
) -> str:
    """Return the frame of a panel: ticks, tick labels, faint grid lines and axis labels.

    Parameters
    ----------
    panel
        Where.
    x_label, y_label
        Under the x axis, and above the y axis.
    counts
        About how many ticks the axes have.
    names
        Labels of the integers 0, 1, ... of the y axis, instead of numbers.
    numbered
        Whether the ticks of the x axis have labels.
    """
    left, top = panel.left, panel.top
    right, bottom = left + panel.width, top + panel.height
    grid, labels = [], []
    for value, label in panel.x.ticks(counts[0]):
        x = panel.place(value, panel.y.high)[0, 0]
        grid.append(f"M{_r(x)} {_r(top)}V{_r(bottom)}")
        if numbered:
            labels.append(text(x, bottom + 15, label, anchor="middle"))
    rows = panel.y.ticks(counts[1]) if names is None else list(enumerate(names))
    for value, label in rows:
        y = panel.place(panel.x.high, value)[0, 1]
        grid.append(f"M{_r(left)} {_r(y)}H{_r(right)}")
        labels.append(text(left - 6, y + 3.5, label, anchor="end"))
    if x_label:
        labels.append(text(left + panel.width / 2, bottom + 32, x_label, anchor="middle"))
    if y_label:
        labels.append(text(left, top - 8, y_label, anchor="start"))
    return (
        f'<path d="{"".join(grid)}" stroke="currentColor" stroke-opacity=".12" fill="none"/>'
        f'<path d="M{_r(left)} {_r(bottom)}H{_r(right)}" stroke="currentColor" '
        f'stroke-opacity=".5" fill="none"/><g fill-opacity=".78">{"".join(labels)}</g>'
    )


def text(x: float, y: float, content: str, *, anchor: str = "start") -> str:
    """Return a text, escaped, at a position of the chart."""
    return f'<text x="{_r(x)}" y="{_r(y)}" text-anchor="{anchor}">{_escape(content)}</text>'


def legend(x: float, y: float, entries: Iterable[tuple[int, str, str]]) -> str:
    """Return rows of ``(series, mark, label)``; a mark is a shape, ``"line"`` or ``"dashed"``."""
    rows = []
    for index, (series, mark, label) in enumerate(entries):
        down = y + 15 * index
        if mark in _SHAPE_PATHS:
            sample = _marks([(x + 8, down)], series, mark)
        else:
            dashes = ' stroke-dasharray="5 3"' if mark == "dashed" else ""
            sample = _coloured(series, f'<path d="M{_r(x)} {_r(down)}h16" stroke-width="2"{dashes} '
                                       'stroke="currentColor" fill="none"/>')  # fmt: skip
        rows.append(sample + text(x + 22, down + 3.5, label))
    return f'<g class="legend">{"".join(rows)}</g>'


# --- marks --------------------------------------------------------------------------------------


def line(panel: Panel, x: Any, y: Any, series: int, *, dashed: bool = False,
         steps: bool = False) -> str:  # fmt: skip
    """Return a curve, broken where it is NaN; ``steps`` holds each value up to the next x."""
    runs = _runs(panel.place(x, y))
    path = "".join(_staircase(run) if steps else _polyline(run) for run in runs)
    lonely = [run[0] for run in runs if len(run) == 1]
    dashes = ' stroke-dasharray="5 3"' if dashed else ""
    curve = (
        f'<path class="curve" d="{path}" stroke="currentColor" stroke-width="1.6"{dashes} '
        'stroke-linejoin="round" fill="none"/>'
    )
    return (_coloured(series, curve) if path else "") + (_marks(lonely, series) if lonely else "")


def band(panel: Panel, x: Any, low: Any, high: Any, series: int) -> str:
    """Return the area between two curves, broken where either is NaN; a bar at a lonely point."""
    lower, upper = panel.place(x, low), panel.place(x, high)
    both = _runs(np.hstack([lower, upper]))
    outlines = [_polyline(np.vstack([run[:, :2], run[::-1, 2:]])) + "z" for run in both]
    if not outlines:
        return ""
    area = (
        f'<path class="band" d="{"".join(outlines)}" fill="currentColor" fill-opacity=".16" '
        'stroke="currentColor" stroke-opacity=".25"/>'
    )
    return _coloured(series, area)


def points(panel: Panel, x: Any, y: Any, series: int, shape: str = "dot") -> str:
    """Return one mark a data point, as one subpath each."""
    places = panel.place(x, y)
    return _marks(places[np.isfinite(places).all(axis=1)], series, shape)


def whiskers(panel: Panel, low: Any, high: Any, y: Any, series: int) -> str:
    """Return horizontal bars between two values each, cut at the edges of the panel."""
    ends = [np.clip(value, panel.x.low, panel.x.high) for value in (low, high)]
    spans = np.hstack([panel.place(end, y) for end in ends])
    drawn = spans[np.isfinite(spans).all(axis=1)]
    path = "".join(f"M{_r(a)} {_r(b)}H{_r(c)}" for a, b, c, _ in drawn)
    bars = f'<path d="{path}" stroke="currentColor" stroke-width="1.4" fill="none"/>'
    return _coloured(series, bars) if path else ""


def rule(
    panel: Panel, x: tuple[float, float], y: tuple[float, float], *, dashed: bool = False
) -> str:
    """Return a thin neutral line between two data points."""
    (a, b), (c, d) = panel.place(x, y)
    dashes = ' stroke-dasharray="3 3"' if dashed else ""
    return (
        f'<path d="M{_r(a)} {_r(b)}L{_r(c)} {_r(d)}" stroke="currentColor" stroke-opacity=".45"'
        f'{dashes} fill="none"/>'
    )


def _marks(places: Any, series: int, shape: str = "dot") -> str:
    path = "".join(f"M{_r(x)} {_r(y)}{_SHAPE_PATHS[shape]}" for x, y in places)
    if shape in ("dot", "square"):
        cap = "round" if shape == "dot" else "square"
        pen = f'stroke-width="{5 if shape == "dot" else 4}" stroke-linecap="{cap}" fill="none"'
    else:
        pen = 'stroke-width=".5" fill="currentColor" fill-opacity=".85"'
    marks = f'<path class="marks" d="{path}" stroke="currentColor" stroke-opacity=".8" {pen}/>'
    return _coloured(series, marks)


def _coloured(series: int, content: str) -> str:
    index = series % len(SERIES)
    return f'<g style="color:var(--series-{index + 1},{SERIES[index]})">{content}</g>'


def _runs(places: Array) -> list[Array]:
    """Split rows where one holds a NaN."""
    good = np.isfinite(places).all(axis=1)
    edges = np.flatnonzero(np.diff(good)) + 1
    return [run for run in np.split(places, edges) if len(run) and np.isfinite(run[0]).all()]


def _polyline(run: Array) -> str:
    return "M" + "L".join(f"{_r(x)} {_r(y)}" for x, y in run) if len(run) > 1 else ""


def _staircase(run: Array) -> str:
    if len(run) < 2:
        return ""
    path = [f"M{_r(run[0, 0])} {_r(run[0, 1])}"]
    path += [
        f"H{_r(here[0])}V{_r(here[1])}"
        for before, here in pairwise(run)
        if _r(here[1]) != _r(before[1])
    ]
    return "".join([*path, f"H{_r(run[-1, 0])}"])


def _r(value: float) -> str:
    """Round a length to a tenth of a pixel: four significant digits below 1,000 pixels."""
    return f"{round(float(value), 1) + 0.0:g}"


def _escape(content: str) -> str:
    return html.escape(legible(content))
