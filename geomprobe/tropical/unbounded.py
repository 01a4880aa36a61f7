"""Whether a box holds all there is: nothing bends beyond it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from torch import Tensor

from geomprobe.storage import Array
from geomprobe.tropical.branches import Branches
from geomprobe.tropical.charts import Chart
from geomprobe.tropical.signs import ZERO
from geomprobe.tropical.tape import Kink, Tape

#: Heights below this share of the largest are rounding, and so are slopes below one of the largest
#: slope and height: rays are differences of vertices, and less exact.
_NO_HEIGHT, NO_SLOPE = 1e-12, 1e-10


def farthest_crossing(
    tape: Tape, chart: Chart, points: Array, rays: Array, half_width: float
) -> tuple[float, int]:
    r"""Return how wide a box about the origin must be for the last crossing known beyond it.

    Beyond the box everything is a prism over its surface, with one ray for each vertex there, as
    long as no ray is crossed: a new vertex can only come to be on one. Where there is no crossing,
    the cells of the box are therefore those of the whole space.

    Parameters
    ----------
    tape : Tape
    chart : Chart
    points, rays : array of shape (k, d)
        The vertices on its surface, and how they move as it grows by its own width.
    half_width : float
        Of the present box.

    Returns
    -------
    width : float
        0 if no unit changes sign on any ray.
    doubtful : int
        How often a unit would, if a slope were not taken for rounding.
    """
    size = max(1, tape.rows_in_memory() // 2)
    farthest, doubtful = 0.0, 0
    for first in range(0, len(points), size):
        at, along = points[first : first + size], rays[first : first + size]
        mesh = _Rays(len(at))
        tape.run(mesh, *chart.rows(np.concatenate([at, at + along])))
        farthest, doubtful = max(farthest, mesh.farthest), doubtful + mesh.doubtful
    return (1 + farthest) * half_width if farthest else 0.0, doubtful


def rays_out(vertices: Array, edges: Array, half_width: float) -> tuple[Array, Array]:
    r"""Return the vertices on a cube, and the directions of their rays, both (rays, d).

    At a vertex p on facets i of the cube, an edge leads off each of them into the cube, with
    direction :math:`v_i`. The ray keeps to the walls of p, and to the facets as the cube grows:
    :math:`\delta = \sum_i p_i v_i / (v_i)_i`.
    """
    on, rays = _rays(vertices, np.ascontiguousarray(edges), half_width * (1 - 1e-12))
    return vertices[on], rays


@njit(cache=True, nogil=True)
def _rays(vertices: Array, edges: Array, width: float) -> tuple[Array, Array]:
    n, d = vertices.shape
    number = np.full(n, -1, np.int64)
    count = 0
    for v in range(n):
        for i in range(d):
            if abs(vertices[v, i]) >= width:
                number[v] = count
                count += 1
                break
    on, rays = np.empty(count, np.int64), np.zeros((count, d))
    for v in range(n):
        if number[v] >= 0:
            on[number[v]] = v
    for e in range(len(edges)):
        for end in range(2):
            p, q = edges[e, end], edges[e, 1 - end]
            if number[p] < 0:
                continue
            released, axis = 0, 0
            for i in range(d):
                x, y = vertices[p, i], vertices[q, i]
                if abs(x) >= width and not (abs(y) >= width and (x > 0) == (y > 0)):
                    released += 1
                    axis = i
            if released == 1:
                share = vertices[p, axis] / (vertices[q, axis] - vertices[p, axis])
                for i in range(d):
                    rays[number[p], i] += share * (vertices[q, i] - vertices[p, i])
    return on, rays


class _Rays(Branches):
    """Bases and one companion each; how far beyond them, in steps, a unit still changes sign."""

    def __init__(self, bases: int) -> None:
        super().__init__(bases)
        self.farthest = 0.0
        self.doubtful = 0

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Look at the heights, and apply the operation as it is at the bases."""
        if kink.bend.windows is None:
            heights = [height.flatten(1) for height in kink.heights(rows[0])]
        else:
            candidates = kink.bend.windows(*rows)
            n = len(candidates) // 2
            winner = candidates[:n].argmax(-1, keepdim=True).repeat(2, 1, 1)
            heights = [(candidates.gather(-1, winner) - candidates).flatten(1)]
        for height in heights:
            base, moved = height.chunk(2)
            slope = moved - base
            reach = max(float(base.abs().max()), float(slope.abs().max()))
            crossed = (base * slope < 0) & (base.abs() > _NO_HEIGHT * base.abs().max())
            crossed &= slope.abs() > ZERO * reach
            steep = slope.abs() > NO_SLOPE * reach
            self.doubtful += int((crossed & ~steep).sum())
            crossed &= steep
            if bool(crossed.any()):
                steps = (base[crossed] / slope[crossed]).abs().max()
                self.farthest = max(self.farthest, float(steps))
        return super().bend(kink, rows)
