"""The regions of a network in a plane through three inputs, and its decision boundary there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from geomprobe.exceptions import MemoryEstimateError
from geomprobe.storage import Array
from geomprobe.tropical.charts import Chart, affine_maps
from geomprobe.tropical.decisions import boundary
from geomprobe.tropical.enumeration import REMEDY, room_for_vertices
from geomprobe.tropical.inputs import aligned, as_batch
from geomprobe.tropical.limits import TooManyInputs
from geomprobe.tropical.merging import Cells, affinity, regions, same_branches, same_map
from geomprobe.tropical.recording import record
from geomprobe.tropical.segments import ROUNDING, not_affine
from geomprobe.tropical.tape import Tape
from geomprobe.values import ByValue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Polygons at which the network is compared with the mean of their corners.
_CHECKED = 1000


@dataclass(frozen=True, eq=False)
class SliceRegions(ByValue):
    """A rectangle of a plane in the space of inputs, cut into the regions of a network.

    Coordinates in the plane are Euclidean, with the first input at the origin and the second on the
    first axis.

    Parameters
    ----------
    anchors : float64 array of shape (3, 2)
        The three inputs.
    vertices : float64 array of shape (n, 2)
    outputs : float64 array of shape (n, outputs)
        Of the network, at the vertices.
    edges : int array of shape (edges, 2)
    origin : int array of shape (edges,)
        Which of ``bends`` drew each edge; -1 on the border.
    corners, starts : int array
        Vertices of the first polygon counter-clockwise, of the second, and so on; and where each
        begins.
    bends : tuple of str
        What bends, in the order of the pass, by the module it happens in.
    deviation : float
        Largest distance of the network inside a polygon from the mean of its corners, over the
        largest output, on a sample of polygons.
    failures : tuple of str
        What was found wrong; empty if the slice is certified.
    notes : tuple of str
    """

    anchors: Array
    vertices: Array
    outputs: Array
    edges: Array
    origin: Array
    corners: Array
    starts: Array
    bends: tuple[str, ...]
    deviation: float
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    _tape: Tape = field(repr=False, compare=False)
    _chart: Chart = field(repr=False, compare=False)
    _walls: Array = field(repr=False, compare=False)
    _phantoms: bool = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def certified(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.failures

    @property
    def polygons(self) -> list[Array]:
        """The corners of each polygon, counter-clockwise: arrays of shape (k, 2)."""
        return np.split(self.vertices[self.corners], self.starts[1:])

    @cached_property
    def areas(self) -> Array:
        """The area of each polygon."""
        return polygon_areas(self.vertices, self.corners, self.starts)

    @cached_property
    def points(self) -> Array:
        """A point inside each polygon, of shape (polygons, 2)."""
        return self._cells.means(self.vertices)

    @cached_property
    def gradients(self) -> Array:
        """The gradient of the outputs on each polygon, of shape (polygons, outputs, 2)."""
        return affine_maps(self._tape, self._chart, self.points)[1]

    @cached_property
    def activation_labels(self) -> Array:
        """Which activation region each polygon belongs to, by number.

        Polygons are these regions, but for walls of a maximum between two candidates that are both
        below a third.
        """
        if not self._phantoms:
            return np.arange(len(self))
        same = same_branches(self._tape, self._chart, self.points, self._walls)
        return regions(len(self), self._walls, same)

    @cached_property
    def linear_labels(self) -> Array:
        """Which linear region each polygon belongs to: neighbours with one affine map are one."""
        return regions(len(self), self._walls, same_map(self.gradients, self._walls))

    @property
    def activation_regions(self) -> int:
        """Regions on which every unit is on one branch."""
        return 1 + int(self.activation_labels.max())

    @property
    def linear_regions(self) -> int:
        """Regions on which the network is one affine map."""
        return 1 + int(self.linear_labels.max())

    @property
    def _cells(self) -> Cells:
        return Cells(self.corners, self.starts)

    def decision_boundary(self) -> Array:
        """Return where the largest output changes: segments, of shape (segments, 2, 2).

        Of a network with one output, where that changes sign. Exact: outputs are affine on each
        polygon.
        """
        return boundary(self.vertices, self.outputs, self.corners, self.starts)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the polygons, coloured by direction and size of the gradient, and the boundary."""
        import matplotlib.pyplot as plt
        from matplotlib.collections import LineCollection, PolyCollection

        axes = plt.subplots()[1] if ax is None else ax
        thin = min(0.2, 200 / len(self))
        colours = 0.65 + 0.35 * plt.get_cmap("hsv")(_hue(self.gradients))
        axes.add_collection(
            PolyCollection(self.polygons, facecolors=colours, edgecolors="0.3", linewidths=thin)
        )
        decided = list(self.decision_boundary())
        axes.add_collection(LineCollection(decided, colors="C3", linewidths=2))
        axes.plot(*self.anchors.T, "k.", markersize=5)
        for name, at in zip("abc", self.anchors, strict=True):
            axes.annotate(name, at, xytext=(3, 3), textcoords="offset points")
        axes.autoscale_view()
        axes.set(aspect="equal", title=f"{len(self)} polygons")
        return axes


def slice_regions(
    model: nn.Module, a: Any, b: Any, c: Any, *, margin: float = 0.25, memory_share: float = 0.5
) -> SliceRegions:
    """Compute the regions of a network in the plane through three inputs.

    Parameters
    ----------
    model : torch.nn.Module
        As of :func:`~geomprobe.tropical.linear_pieces`.
    a, b, c : tensor, or a tuple, list or dict of tensors
        Inputs as a data set gives them, without the axis of the batch; not on one line.
    margin : float
        How far the rectangle reaches beyond the three, in their extent.
    memory_share : float
        Largest share of the available memory to take.

    Returns
    -------
    SliceRegions

    Raises
    ------
    ValueError
        Inputs of different shapes or on one line; what
        :func:`~geomprobe.tropical.linear_pieces` raises.
    MemoryEstimateError
        What the lines through the middle of the rectangle lead to expect does not fit; or it did
        not, and so many vertices had been reached.

    Notes
    -----
    Every quantity is affine on a polygon and known at its corners; each unit in turn cuts the
    polygons that it crosses, and all that is still needed is interpolated at the new vertices. What
    is within 1e-14 of a line, in heights over the largest, lies on it: duplicated units, zero
    biases and ties are taken as they are.

    The certificate: with V vertices, E edges and F polygons, F = E - V + 1; the areas sum to that
    of the rectangle; every polygon that a line crosses was cut; the network is affine on a sample
    of polygons.

    References
    ----------
    Humayun, A. I., Balestriero, R., Balakrishnan, G. and Baraniuk, R. (2023). SplineCam: exact
    visualization and characterization of deep network geometry and decision boundaries. CVPR.
    """
    from geomprobe.tropical.polygons import Polygons

    if margin < 0:
        raise ValueError(f"margin must be 0 or more, got {margin}")
    chart, anchors = plane_through(aligned([a, b, c], ["a", "b", "c"]))
    low, high = anchors.min(axis=0), anchors.max(axis=0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
    tape = record(model, as_batch(a))
    tape.require_agreement(chart.rows(np.concatenate([anchors, corners])))
    mesh = Polygons(4, room_for_vertices(tape, chart, low, high, memory_share))
    try:
        outputs = tape.run(mesh, *chart.rows(corners)).cpu().numpy()
    except TooManyInputs as reached:
        raise MemoryEstimateError(
            f"the slice has more polygons than fit into memory: {mesh.faces} were reached at "
            f"{reached.kink!r}. {REMEDY}"
        ) from None
    vertices, cells = mesh.positions(corners), mesh.cells()
    failures = mesh.failures()
    if len(cells) != len(mesh.edges) - len(vertices) + 1:
        failures.append("the number of polygons is not E - V + 1")
    area = float(np.prod(high - low))
    areas = polygon_areas(vertices, cells.corners, cells.starts)
    if abs(areas.sum() / area - 1) > ROUNDING or areas.min() < -ROUNDING * area:
        failures.append(f"areas sum to {areas.sum() / area:.12f} of the rectangle")
    some = cells.take(np.sort(np.random.default_rng(0).permutation(len(cells))[:_CHECKED]))
    deviation = affinity(tape, chart, some, vertices, outputs)
    failures += not_affine(deviation, "polygon")
    return SliceRegions(
        anchors,
        vertices,
        outputs,
        mesh.edges,
        mesh.source,
        cells.corners,
        cells.starts,
        tuple(kink.name for kink in tape.kinks),
        deviation,
        tuple(failures),
        tuple(mesh.notes()),
        tape,
        chart,
        mesh.walls(),
        mesh.phantoms,
    )


def plane_through(points: list[torch.Tensor]) -> tuple[Chart, Array]:
    """Return Euclidean coordinates of the plane through three inputs, and those of the inputs.

    Parameters
    ----------
    points : list of Tensor
        Rows of shape (3, 1, *shape) of each tensor that moves.

    Raises
    ------
    ValueError
        They are on one line.
    """
    flat = torch.cat([part.flatten(1) for part in points], 1)
    sides = flat[1:] - flat[0]
    basis, heights = torch.linalg.qr(sides.T)
    if float(heights[1, 1].abs()) <= 1e-9 * float(sides.norm()):
        raise ValueError("a, b and c are on one line: no plane is given by them")
    signs = heights.diagonal().sign()
    basis, heights = basis * signs, heights * signs[:, None]
    sizes = [part[0].numel() for part in points]
    axes = [
        part.reshape(2, *one.shape[1:])
        for part, one in zip(basis.T.split(sizes, 1), points, strict=True)
    ]
    anchors = np.vstack([np.zeros(2), heights.T.cpu().numpy()])
    return Chart([part[:1].squeeze(0) for part in points], axes), anchors


def polygon_areas(vertices: Array, corners: Array, starts: Array) -> Array:
    """Return the signed areas of polygons, by the shoelace formula."""
    ends = np.append(starts[1:], len(corners)) - 1
    following = np.arange(1, len(corners) + 1)
    following[ends] = starts
    # About the first corner of each, so that small polygons keep their digits.
    first = vertices[np.repeat(corners[starts], np.diff(np.append(starts, len(corners))))]
    x, y = (vertices[corners] - first).T
    twice: Array = np.add.reduceat(x * y[following] - x[following] * y, starts)
    return twice / 2


def _hue(gradients: Array) -> Array:
    """Return a number from 0 to 1 by the direction of the gradient of the first output."""
    x, y = gradients[:, 0].T
    hue: Array = (np.arctan2(y, x) / (2 * np.pi)) % 1.0
    return hue
