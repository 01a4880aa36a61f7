"""Whether a box holds all there is: nothing bends beyond it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geomprobe.storage import Array
from geomprobe.tropical.branches import Branches
from geomprobe.tropical.charts import Chart
from geomprobe.tropical.tape import Kink, Tape

#: Heights below this share of the largest are zero on a ray.
_ZERO = 1e-9


def crossings_beyond(
    tape: Tape, chart: Chart, vertices: Array, edges: Array, half_width: float
) -> int:
    r"""Count the rays out of a cube about the origin on which a unit still changes sign.

    Beyond the cube everything is a prism over its surface, with one ray for each vertex there, as
    long as no ray is crossed: a new vertex can only come to be on one. Without crossings the cells
    of the cube are therefore those of the whole space.

    Parameters
    ----------
    tape : Tape
    chart : Chart
    vertices : array of shape (n, d)
    edges : int array of shape (edges, 2)
    half_width : float

    Notes
    -----
    At a vertex p on facets i of the cube, an edge leads off each of them into the cube, with
    direction :math:`v_i`. On the ray p moves in its walls, and the facets as the cube grows:
    :math:`\\delta = \\sum_i p_i v_i / (v_i)_i`.
    """
    # By facet: the lower ones of all axes, and then the upper ones.
    outside = np.concatenate([-vertices, vertices], 1) >= half_width * (1 - 1e-12)
    ends = np.concatenate([edges, edges[:, ::-1]])
    released = outside[ends[:, 0]] & ~outside[ends[:, 1]]
    ends, released = ends[released.sum(axis=1) == 1], released[released.sum(axis=1) == 1]
    start, axis = ends[:, 0], released.argmax(axis=1) % vertices.shape[1]
    inward = vertices[ends[:, 1]] - vertices[start]
    rows = np.arange(len(start))
    rays = np.zeros_like(vertices)
    share = vertices[start, axis] / inward[rows, axis]
    np.add.at(rays, start, share[:, None] * inward)
    on = np.flatnonzero(outside.any(axis=1))
    size = max(1, tape.rows_in_memory() // 2)
    crossed = 0
    for first in range(0, len(on), size):
        at = on[first : first + size]
        mesh = _Rays(len(at))
        tape.run(mesh, *chart.rows(np.concatenate([vertices[at], vertices[at] + rays[at]])))
        crossed += int(mesh.crossed.sum())
    return crossed


class _Rays(Branches):
    """Bases and one companion each; notes whether a unit changes sign beyond the companion."""

    def __init__(self, bases: int) -> None:
        super().__init__(bases)
        self.crossed = torch.zeros(bases, dtype=torch.bool)

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Look at the heights, and apply the operation as it is at the bases."""
        if kink.bend.windows is None:
            heights = [(rows[0] - threshold).flatten(1) for threshold in kink.bend.thresholds]
        else:
            candidates = kink.bend.windows(*rows)
            n = len(candidates) // 2
            winner = candidates[:n].argmax(-1, keepdim=True).repeat(2, 1, 1)
            heights = [(candidates.gather(-1, winner) - candidates).flatten(1)]
        for height in heights:
            base, moved = height.chunk(2)
            slope = moved - base
            certain = [
                part.abs() > _ZERO * part.abs().amax(1, keepdim=True) for part in (base, slope)
            ]
            opposite = (base * slope < 0) & certain[0] & certain[1]
            self.crossed |= opposite.any(1).cpu()
        return super().bend(kink, rows)
