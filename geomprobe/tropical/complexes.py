"""All regions of a network in a box, or in the whole space, of few dimensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from geomprobe.exceptions import MemoryEstimateError
from geomprobe.storage import Array
from geomprobe.tropical.charts import Chart, affine_maps
from geomprobe.tropical.enumeration import REMEDY, Found, enumerated, room_for_vertices
from geomprobe.tropical.limits import DegenerateWalls, TooManyInputs
from geomprobe.tropical.merging import Cells, affinity, regions, same_branches, same_map
from geomprobe.tropical.perturbation import perturbed
from geomprobe.tropical.recording import record
from geomprobe.tropical.segments import not_affine
from geomprobe.tropical.tape import Tape
from geomprobe.values import ByValue

#: Most dimensions of a box.
LARGEST_DIMENSION = 10
#: Half-widths of what should hold all vertices of a whole space: of the interval or square, and of
#: the simplex, that is first tried; and the largest. Not round, for there networks bend.
CUBE, SIMPLEX, WIDEST = 1.0471e6, 1e8, 1e9
#: Cells at which the network is compared with the mean of their corners.
_CHECKED = 1000


@dataclass(frozen=True, eq=False)
class RegionComplex(ByValue):
    """The polyhedral complex into which a network cuts a box.

    Parameters
    ----------
    low, high : float64 array of shape (d,)
        The box; infinite for the whole space.
    vertices : float64 array of shape (n, d)
        For the whole space, in a cube or a simplex beyond which nothing bends.
    edges : int array of shape (edges, 2)
    f_vector : tuple of int
        How many faces of each dimension there are: vertices, edges, ..., cells.
    deviation : float
        Largest distance of the network inside a cell from the mean of its corners, over the largest
        output, on a sample of cells.
    failures : tuple of str
        What was found wrong; empty if the count is certified.
    notes : tuple of str
    """

    low: Array
    high: Array
    vertices: Array
    edges: Array
    f_vector: tuple[int, ...]
    deviation: float
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    _tape: Tape = field(repr=False, compare=False)
    _chart: Chart = field(repr=False, compare=False)
    _cells: Cells = field(repr=False, compare=False)
    _walls: Callable[[], Array] = field(repr=False, compare=False)
    _phantoms: bool = field(repr=False, compare=False)

    @property
    def certified(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.failures

    @property
    def euler_characteristic(self) -> int:
        """The alternating sum of the f-vector: 1 for a box."""
        return sum((-1) ** k * count for k, count in enumerate(self.f_vector))

    @cached_property
    def points(self) -> Array:
        """A point inside each cell, of shape (cells, d)."""
        return self._cells.means(self.vertices)

    @cached_property
    def walls(self) -> Array:
        """The cells on both sides of each inner wall, of shape (walls, 2)."""
        return self._walls()

    @cached_property
    def activation_regions(self) -> int:
        """Regions on which every unit is on one branch."""
        if not self._phantoms:
            return self.f_vector[-1]
        return self._merged(same_branches(self._tape, self._chart, self.points, self.walls))

    @cached_property
    def linear_regions(self) -> int:
        """Regions on which the network is one affine map: neighbours with the same are merged.

        Computed on first use, in some times the time of the complex itself.
        """
        return self._merged(same_map(self._gradients(), self.walls))

    def _gradients(self) -> Array:
        return affine_maps(self._tape, self._chart, self.points)[1]

    def _merged(self, same: Array) -> int:
        return 1 + int(regions(len(self._cells), self.walls, same).max())


def region_complex(
    model: nn.Module,
    box: tuple[Any, Any],
    *,
    perturb: float = 0.0,
    seed: int = 0,
    memory_share: float = 0.5,
) -> RegionComplex:
    r"""Compute all regions of a network in a box, or in all of R^d, for d up to 10.

    Cells are kept as vertices and edges. Each unit in turn splits the edges whose ends it tells
    apart; two split edges of one two-dimensional face, found by a 64-bit name, are joined by a new
    edge. No linear program is solved. Faces are counted at their lowest vertices: with
    :math:`u_i` edges that leave wall i upwards, a vertex is the lowest of :math:`\prod_i u_i`
    cells.

    Parameters
    ----------
    model : torch.nn.Module
        As of :func:`~geomprobe.tropical.linear_pieces`.
    box : pair of arrays or tensors
        Lower and upper corner, of the shape of one input without the axis of the batch; all
        infinite for the whole space.
    perturb : float
        Where walls are not in general position: standard deviation of random numbers that are
        added to the argument of everything that bends. The count is then that of the network so
        moved, and the notes say so.
    seed : int
        Of those.
    memory_share : float
        Largest share of the available memory to take.

    Returns
    -------
    RegionComplex

    Raises
    ------
    ValueError
        A box of more than 10 dimensions, empty, or infinite on some sides only; more walls through
        a point than there are dimensions (in two dimensions this is no error); what
        :func:`~geomprobe.tropical.linear_pieces` raises.
    MemoryEstimateError
        What the lines through the middle of the box lead to expect does not fit; or it did not, and
        so many vertices had been reached.

    Notes
    -----
    Time and memory are proportional to the number of vertices, of which there are of the order of
    n^d / d! for n units. A height of less than 1e-14 of its unit's largest in the box is taken as
    zero: in two dimensions the vertex then lies on the line, otherwise the network is refused. A
    unit that stays below 1e-14 of the largest of its operation does not bend.

    The certificate: every crossed face has two crossed edges; every vertex has its edges; the Euler
    characteristic is 1; the network is affine on a sample of cells, and in one dimension every bend
    on every piece, as by :func:`~geomprobe.tropical.linear_pieces`. For the whole space, also that
    no unit changes sign on any ray beyond what was cut, up to slopes of 1e-10 of the largest; where
    that left out a change of sign, the notes say so. What is cut is a wide square, or an
    interval or a simplex that is in the end as wide as twice where anything bends. On the interval
    bends closer together than 1e-12 of it count as one, which the notes tell; the vertices on the
    border of the simplex are kept as directions and offsets: its width takes no digits of others.

    References
    ----------
    Berzins, A. (2023). Polyhedral complex extraction from ReLU networks using edge subdivision.
    ICML. Ziegler, G. M. (1995). Lectures on Polytopes, section 8.3.
    """
    low, high = _corners(box)
    if perturb < 0:
        raise ValueError(f"perturb must be 0 or more, got {perturb}")
    tape, chart = _recorded(model, low, high)
    notes = []
    if perturb:
        tape = perturbed(tape, perturb, seed)
        notes.append(f"The network with N(0, {perturb:g}^2) added to the argument of every bend.")
    flat = low.reshape(-1), high.reshape(-1)
    if np.isfinite(low).all():
        try:
            found = _found(tape, chart, *flat, memory_share)
        except DegenerateWalls as seen:
            raise _not_general(seen, low.size) from None
        return _described(tape, chart, *flat, found, notes)
    return _everywhere(tape, chart, *flat, notes, memory_share)


def _everywhere(
    tape: Tape, chart: Chart, low: Array, high: Array, notes: list[str], share: float
) -> RegionComplex:
    """Enumerate the whole space, by a part that is widened until nothing bends beyond it."""
    from geomprobe.tropical.unbounded import farthest_crossing, rays_out

    first = width = CUBE if len(low) < 3 else SIMPLEX
    while True:
        cube = np.full(len(low), width)
        try:
            found = _found(tape, chart, -cube, cube, share, whole=True)
        except DegenerateWalls as seen:
            # Rounding may not tell walls apart in a wide cube that it does in a smaller one.
            if width < first:
                raise _not_general(seen, len(low)) from None
            width = first / 100
            continue
        border = found.border or (*rays_out(found.vertices, found.edges, width), width)
        needed, doubtful = farthest_crossing(tape, chart, *border)
        if needed <= width or width < first or needed > WIDEST:
            break
        width = 2 * needed
    reached = border[-1]
    if needed:
        found.failures.append(
            f"units still change sign beyond the half-width {reached:g}, as far out as "
            f"{needed:g}: regions there are not counted"
        )
    if doubtful:
        found.notes.append(
            f"Walls that meet beyond the half-width {reached:g} at an angle within rounding count "
            f"as parallel: {doubtful} times."
        )
    return _described(tape, chart, low, high, found, notes)


def _not_general(seen: DegenerateWalls, d: int) -> ValueError:
    return ValueError(
        f"more than {d} walls go through one point, seen at {seen.kink!r}: duplicated units, zero "
        "biases, windows of a maximum that overlap, or a wall through a corner of the box. Give "
        "perturb=1e-6, say, for the count of a network moved so (windows that overlap remain); "
        "slice_regions takes planes as they are"
    )


def _corners(box: tuple[Any, Any]) -> tuple[Array, Array]:
    low, high = (np.asarray(corner, dtype=np.float64) for corner in box)
    if low.shape != high.shape or not low.size:
        raise ValueError(f"box must be two corners of one shape, got {low.shape} and {high.shape}")
    if low.size > LARGEST_DIMENSION:
        raise ValueError(
            f"the box has {low.size} dimensions, and regions can be enumerated in at most "
            f"{LARGEST_DIMENSION}; look along lines (linear_pieces), in planes (slice_regions) or "
            "around data (local_complexity)"
        )
    infinite = np.isinf(low).all() and np.isinf(high).all()
    if not (low < high).all() or not (infinite or (np.isfinite(low) & np.isfinite(high)).all()):
        raise ValueError("box must have low < high, and be finite, or infinite on all sides")
    return low, high


def _recorded(model: nn.Module, low: Array, high: Array) -> tuple[Tape, Chart]:
    parameter = next(
        (p for p in model.parameters() if p.is_floating_point()), torch.zeros(0, device="cpu")
    )
    sample = torch.zeros(1, *low.shape, dtype=parameter.dtype, device=parameter.device)
    tape = record(model, sample)
    unit = torch.eye(low.size, dtype=torch.float64, device=parameter.device)
    axes = unit.reshape(low.size, 1, *low.shape)
    chart = Chart([torch.zeros_like(axes[0])], [axes])
    low, high = (np.nan_to_num(side.reshape(-1), posinf=10, neginf=-10) for side in (low, high))
    some = low + (high - low) * np.random.default_rng(0).random((8, len(low)))
    tape.require_agreement(chart.rows(some))
    return tape, chart


def _found(
    tape: Tape, chart: Chart, low: Array, high: Array, share: float, whole: bool = False
) -> Found:
    # On a line through all of a whole space, rounding would not tell breakpoints near zero apart.
    start, end = (low.clip(-CUBE), high.clip(max=CUBE)) if whole else (low, high)
    limit = room_for_vertices(tape, chart, start, end, share, 2 if whole else 1)
    try:
        return enumerated(tape, chart, low, high, limit, whole=whole)
    except TooManyInputs as reached:
        raise MemoryEstimateError(
            f"the complex has more vertices than fit into memory: {reached.inputs} were reached "
            f"at {reached.kink!r}. {REMEDY}"
        ) from None


def _described(
    tape: Tape, chart: Chart, low: Array, high: Array, found: Found, notes: list[str]
) -> RegionComplex:
    failures = found.failures
    euler = sum((-1) ** k * count for k, count in enumerate(found.f_vector))
    if euler != 1:
        failures.append(f"the Euler characteristic is {euler}, not 1")
    sample = np.random.default_rng(0).permutation(len(found.cells))[:_CHECKED]
    some = found.cells.take(np.sort(sample))
    deviation = affinity(tape, chart, some, found.vertices, found.outputs)
    failures += not_affine(deviation, "cell")
    return RegionComplex(
        low,
        high,
        found.vertices,
        found.edges,
        found.f_vector,
        deviation,
        tuple(failures),
        (*notes, *found.notes),
        tape,
        chart,
        found.cells,
        found.walls,
        found.phantoms,
    )
