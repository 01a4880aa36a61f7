"""From convex cells to regions: neighbours that a wall does not tell apart are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from geomprobe.storage import Array
from geomprobe.tropical.charts import Chart, values_at
from geomprobe.tropical.tape import Kink, Tape

#: Gradients that differ by less than this share of the largest are equal.
SAME_GRADIENT = 1e-9


@dataclass(frozen=True, eq=False)
class Cells:
    """Convex cells.

    Parameters
    ----------
    corners : int array
        Vertices of the first cell, of the second, and so on: all of them, or as many as span it.
    starts : int array of shape (cells,)
        Where those of each cell begin.
    """

    corners: Array
    starts: Array

    def __len__(self) -> int:
        return len(self.starts)

    def means(self, rows: Array) -> Array:
        """Return the mean of rows over the corners of each cell: of vertices, a point inside it."""
        counts = np.diff(np.append(self.starts, len(self.corners)))
        sums: Array = np.add.reduceat(rows[self.corners], self.starts, axis=0)
        return sums / counts[:, None]

    def take(self, which: Array) -> Cells:
        """Return some of the cells."""
        counts = np.diff(np.append(self.starts, len(self.corners)))[which]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        inside = np.repeat(self.starts[which] - starts, counts) + np.arange(counts.sum())
        return Cells(self.corners[inside], starts)


def regions(cells: int, walls: Array, same: Array) -> Array:
    """Return the number of each cell's region: walls that are the same on both sides join."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    joined = walls[same]
    graph = coo_array(
        (np.ones(len(joined), bool), (joined[:, 0], joined[:, 1])), shape=(cells, cells)
    )
    labels: Array = connected_components(graph, directed=False)[1]
    return labels


def same_map(gradients: Array, walls: Array) -> Array:
    """Return whether the affine maps on both sides of each wall are equal.

    The network being continuous, they are if their gradients, (cells, ...), are.
    """
    flat = gradients.reshape(len(gradients), -1)
    jumps = np.abs(flat[walls[:, 0]] - flat[walls[:, 1]]).max(axis=1, initial=0.0)
    same: Array = jumps <= SAME_GRADIENT * np.abs(flat).max(initial=0.0)
    return same


def same_branches(tape: Tape, chart: Chart, points: Array, walls: Array) -> Array:
    """Return whether every unit is on the same branch on both sides of each wall."""
    size = tape.rows_in_memory()
    names = []
    for start in range(0, len(points), size):
        naming = Naming(len(points[start : start + size]))
        tape.run(naming, *chart.rows(points[start : start + size]))
        names.append(naming.names)
    name = np.concatenate(names)
    same: Array = name[walls[:, 0]] == name[walls[:, 1]]
    return same


class Naming:
    """Inputs that stay as they are, and names of the branches that all units are on, 64 bits."""

    version = 0

    def __init__(self, inputs: int) -> None:
        self.names = np.zeros(inputs, np.uint64)
        self._random = np.random.default_rng(0)

    def lift(self, rows: Tensor, version: int) -> Tensor:
        """Return the rows."""
        return rows

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Apply an operation, and add the names of the branches."""
        for branch in branches(kink, rows):
            numbers = self._random.integers(0, 2**64, branch.shape[1], dtype=np.uint64)
            with np.errstate(over="ignore"):
                self.names += (branch.cpu().numpy().astype(np.uint64) * numbers).sum(1)
        return kink.apply(*rows)


def branches(kink: Kink, rows: Sequence[Tensor]) -> list[Tensor]:
    """Return the branch of each unit: (n, units) of integers for each threshold or maximum."""
    if kink.bend.windows is not None:
        return [kink.bend.windows(*rows).argmax(-1)]
    (entries,) = rows
    return [(entries > threshold).flatten(1) for threshold in kink.bend.thresholds]


def affinity(tape: Tape, chart: Chart, cells: Cells, vertices: Array, outputs: Array) -> float:
    """Return the largest distance of the network inside a cell from the mean of its corners.

    Over the largest output. It is rounding if no bend is missing.
    """
    largest = float(np.abs(outputs).max(initial=0.0))
    inside = values_at(tape, chart, cells.means(vertices))
    off = float(np.abs(inside - cells.means(outputs)).max(initial=0.0))
    return off / largest if largest else 0.0
