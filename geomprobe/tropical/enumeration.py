"""The cells of a box of any dimension, by the mesh for it, and whether they fit into memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from geomprobe.memory import allowed_bytes, require_memory
from geomprobe.storage import Array
from geomprobe.tropical.charts import Chart
from geomprobe.tropical.merging import Cells
from geomprobe.tropical.segments import breakpoints, not_affine
from geomprobe.tropical.tape import Tape

if TYPE_CHECKING:
    from geomprobe.tropical.skeleton import Skeleton

#: What to do instead, where a complex does not fit.
REMEDY = "Take a smaller part, or look along lines (linear_pieces) or in planes (slice_regions)"


@dataclass(eq=False)
class Found:
    """What a mesh has come to."""

    vertices: Array
    outputs: Array
    edges: Array
    f_vector: tuple[int, ...]
    cells: Cells
    walls: Callable[[], Array]
    phantoms: bool
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Of a whole space, where that is not its vertices' own: those on the border, their rays, and
    #: how far it is.
    border: tuple[Array, Array, float] | None = None


def enumerated(
    tape: Tape, chart: Chart, low: Array, high: Array, limit: int, *, whole: bool = False
) -> Found:
    """Cut a box by the mesh for its dimension, of at most ``limit`` vertices.

    It may stand for the ``whole`` space: an interval is then narrowed to where something bends, and
    in three dimensions or more a simplex is taken in its place, which has fewer corners.

    Raises
    ------
    TooManyInputs
        It has more.
    DegenerateWalls
        In three dimensions or more: walls are not in general position.
    """
    few, others = (_line, _simplex) if whole else (_interval, _cells)
    mesh = {1: few, 2: _polygons}.get(len(low), others)
    return mesh(tape, chart, low, high, limit)


def _interval(tape: Tape, chart: Chart, low: Array, high: Array, limit: int) -> Found:
    ends = np.stack([low, high])
    rows = chart.rows(ends[:1]), chart.rows(ends[1:])
    points = breakpoints(tape, *rows, most=limit, certify=True)
    n = len(points.t) - 1
    pairs = np.stack([np.arange(n), np.arange(n) + 1], 1)
    vertices = (1 - points.t[:, None]) * low + points.t[:, None] * high
    cells = Cells(pairs.reshape(-1), 2 * np.arange(n))
    found = Found(vertices, points.values, pairs, (n + 1, n), cells, lambda: pairs[: n - 1], False)
    found.failures += not_affine(points.deviation, "piece")
    found.notes += points.notes
    return found


def _line(tape: Tape, chart: Chart, low: Array, high: Array, limit: int) -> Found:
    """Cut an interval, take it in to twice where the last bend is, and cut it anew.

    So bends that are close, and one in the wide interval, are told apart.
    """
    from geomprobe.tropical.polyline import TOLERANCE

    ends = np.stack([low, high])
    t = breakpoints(tape, chart.rows(ends[:1]), chart.rows(ends[1:]), most=limit).t[1:-1, None]
    if len(t):
        reach = np.abs((1 - t) * low + t * high).max() + TOLERANCE * (high - low)
        low, high = low.clip(-2 * reach), high.clip(max=2 * reach)
    found = _interval(tape, chart, low, high, limit)
    # Beyond the wide interval: on rays as short as the narrow one far walls are lost to rounding.
    found.border = ends, ends, float(ends[1, 0])
    return found


def _polygons(tape: Tape, chart: Chart, low: Array, high: Array, limit: int) -> Found:
    from geomprobe.tropical.polygons import Polygons

    corners = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
    mesh = Polygons(4, limit)
    outputs = tape.run(mesh, *chart.rows(corners)).cpu().numpy()
    vertices = mesh.positions(corners)
    counts = (len(vertices), len(mesh.edges), mesh.faces)
    found = Found(vertices, outputs, mesh.edges, counts, mesh.cells(), mesh.walls, mesh.phantoms)
    found.failures, found.notes = mesh.failures(), mesh.notes()
    return found


def _cells(tape: Tape, chart: Chart, low: Array, high: Array, limit: int) -> Found:
    from geomprobe.tropical.skeleton import Skeleton

    d = len(low)
    corners = np.where((np.arange(2**d)[:, None] >> np.arange(d)) & 1, high, low)
    mesh = Skeleton(d, limit)
    outputs = tape.run(mesh, *chart.rows(corners)).cpu().numpy()
    return _of_skeleton(mesh, mesh.positions(corners), outputs)


def _simplex(tape: Tape, chart: Chart, low: Array, high: Array, limit: int) -> Found:
    from geomprobe.tropical.space import Space

    mesh = Space(len(low), limit, float(high[0]))
    corners = mesh.coordinates()
    outputs = tape.run(mesh, *chart.rows(corners))
    places = mesh.lift(torch.from_numpy(corners), 0)
    mesh.narrow(places)
    vertices = mesh.values(places)
    found = _of_skeleton(mesh, vertices, mesh.values(outputs))
    found.border = vertices[mesh.far], mesh.rays(places), mesh.width
    return found


def _of_skeleton(mesh: Skeleton, vertices: Array, outputs: Array) -> Found:
    around = mesh.surroundings(vertices)
    counts = tuple(int(count) for count in around.counts)
    walls = partial(mesh.walls, around)
    found = Found(vertices, outputs, mesh.edges, counts, mesh.cells(around), walls, mesh.phantoms)
    problems = {
        "crossed faces do not have just two crossed edges": mesh.unpaired,
        "edges are missing at vertices": around.missing,
        "edges contradict each other about their walls": around.spoiled,
    }
    found.failures = [f"{count} {what}" for what, count in problems.items() if count]
    found.notes = mesh.notes()
    return found


def room_for_vertices(
    tape: Tape, chart: Chart, low: Array, high: Array, share: float, rows: int = 1
) -> int:
    """Return how many vertices, of so many rows each, may be kept; refuse a box that has more.

    The number to expect is got from the breakpoints along the lines through the middle of the box:
    n hyperplanes that each cross all of them would make of the order of n^d / d! vertices.
    """
    d = len(low)
    middle = (low + high) / 2
    starts, ends = (np.where(np.eye(d, dtype=bool), corner, middle) for corner in (low, high))
    found = breakpoints(tape, chart.rows(starts), chart.rows(ends), most=10**7)
    on_line = np.bincount(found.segment[found.origin >= 0], minlength=d)
    expected = float(np.prod(on_line + 2.0)) / math.factorial(d)
    a_vertex = 8 * (4 * rows * tape.widest + d * (8 + d))
    what = f"the complex of about {expected:.1g} vertices"
    require_memory(int(expected * a_vertex), what, REMEDY, share=share)
    allowed = allowed_bytes(share=share)
    return 10**9 if allowed is None else allowed // a_vertex
