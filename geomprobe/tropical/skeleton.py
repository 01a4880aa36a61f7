"""The mesh of a box: vertices and edges of a simple complex, and two-dimensional faces by name.

A face is named by the sum of random 64-bit numbers, one for each unit and sign: plus, minus, or
zero where the face lies in the unit's wall. The two edges of a face that a wall crosses find each
other by that name. No linear program is solved, and no sign vector is kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from geomprobe.storage import Array
from geomprobe.tropical.cells import CellMesh
from geomprobe.tropical.faces import face_counts, lowest_faces, stars
from geomprobe.tropical.far import Heights
from geomprobe.tropical.limits import DegenerateWalls, TooManyInputs
from geomprobe.tropical.merging import Cells
from geomprobe.tropical.subdivision import DEGENERATE, FULL, byte_sums, split_skeleton
from geomprobe.tropical.tape import Kink


class Surroundings(NamedTuple):
    """What :meth:`Skeleton.surroundings` returns."""

    counts: Array  #: Faces of each dimension.
    missing: int  #: Edges that should be there and are not.
    spoiled: int  #: Contradictions between edges.
    wall: Array
    far: Array
    base: Array
    height: Array


class Skeleton(CellMesh):
    """A box, cut into convex cells: its vertices and edges.

    Every vertex lies in as many walls as there are dimensions. Walls are numbered: first the facets
    of the box, then the units that cut, in the order of their cuts.

    Parameters
    ----------
    dimension : int
        At least 2.
    limit : int
        Most vertices to keep.

    Attributes
    ----------
    edges : int array of shape (edges, 2)
        The vertices at both ends.
    left : int array of shape (edges, 2)
        Which wall one leaves when one goes from an end into the edge, and on which side: twice the
        number of the wall, plus one on its positive side.
    within : int array of shape (edges, dimension - 1)
        Walls that the edge lies in.
    source : int array of shape (walls,)
        Which kink each wall belongs to; -1 for facets of the box.
    unpaired : int
        Crossed faces that have not just two crossed edges.
    """

    def __init__(self, dimension: int, limit: int) -> None:
        d = dimension
        corner = np.arange(2**d)
        axis, low = np.nonzero((corner[None] >> np.arange(d)[:, None]) & 1 == 0)
        edges = np.stack([low, low | (1 << axis)], 1)
        left = np.stack([4 * axis + 1, 4 * axis + 3], 1)
        others = np.array([[b for b in range(d) if b != a] for a in range(d)]).reshape(d, -1)[axis]
        within = 2 * others + ((low[:, None] >> others) & 1)
        self._begin(d, limit, 2 * d, edges, left, within)

    def _begin(
        self, dimension: int, limit: int, facets: int, edges: Array, left: Array, within: Array
    ) -> None:
        """Start from a simple polytope."""
        super().__init__(1 + int(edges.max()))
        self.dimension, self.facets = dimension, facets
        self._random = np.random.default_rng(0)
        self.names = np.empty((0, 3), np.uint64)  # By wall: minus, zero, plus.
        self.source = np.empty(0, np.int64)
        self._name(facets, -1)
        self.edges, self.left, self.within = edges, left.astype(np.int32), within.astype(np.int32)
        total = self.names[:, 2].sum(dtype=np.uint64)
        zero = self.names[:, 1] - self.names[:, 2]
        self.hashes = total + zero[self.within].sum(axis=1, dtype=np.uint64)
        self.unpaired = 0
        self._limit = limit
        self._kinks: list[str] = []

    def surroundings(self, vertices: Array) -> Surroundings:
        """Return the faces of the complex, from the positions of the vertices, (n, d)."""
        wall, far, base, spoiled = stars(
            self.edges, self.left, self.within, self.hashes, self.names, len(vertices)
        )
        # Any direction in which no two vertices are level.
        height = vertices @ np.random.default_rng(1).normal(size=self.dimension)
        counts, missing = face_counts(wall, far, height, self.facets)
        return Surroundings(counts, missing, spoiled, wall, far, base, height)

    def cells(self, around: Surroundings) -> Cells:
        """Return the cells, each with corners that span it."""
        corners = self._lowest(around, walls=0)[1]
        return Cells(corners.reshape(-1), np.arange(len(corners)) * (self.dimension + 1))

    def walls(self, around: Surroundings) -> Array:
        """Return the cells on both sides of each wall, (walls, 2)."""
        key, _, sides = self._lowest(around, walls=int(around.counts[-2]))
        order = np.argsort(key)
        if (np.diff(key[order]) == 0).any():
            raise RuntimeError("two cells have one name: a collision of 64-bit sums")
        return order[np.searchsorted(key[order], sides)]

    def _lowest(self, around: Surroundings, walls: int) -> tuple[Array, Array, Array]:
        cells = int(around.counts[-1])
        return lowest_faces(
            around.wall, around.far, around.base, self.names, around.height, cells, walls
        )

    def _name(self, walls: int, kink: int) -> None:
        drawn = self._random.integers(0, 2**64, (walls, 3), dtype=np.uint64)
        self.names = np.concatenate([self.names, drawn])
        self.source = np.concatenate([self.source, np.full(walls, kink)])

    def _split(self, heights: Array, known: int, zero: Array, kink: Kink) -> Array:
        return self._subdivided(Heights(heights), 1.0, known, zero, kink).values

    def _subdivided(
        self, at: Heights, width: float, known: int, zero: Array, kink: Kink
    ) -> Heights:
        """Cut along the zeros of heights; return them at all vertices then."""
        if kink.name not in self._kinks[-1:]:
            self._kinks.append(kink.name)
        walls = len(self.names)
        self._name(at.values.shape[1], len(self._kinks) - 1)
        found = split_skeleton(
            self.edges,
            self.left,
            self.within,
            self.hashes,
            at.values,
            at.slopes,
            at.offsets,
            at.sizes,
            at.far,
            width,
            known,
            zero,
            self.names,
            byte_sums(self.names[walls:]),
            walls,
            self.facets,
            self._limit,
        )
        self.edges, self.left, self.within, self.hashes = found[:4]
        made = Heights(*found[4:9])
        first, second, places, unpaired, stopped = found[9:]
        if stopped == DEGENERATE:
            raise DegenerateWalls(kink.name)
        self.unpaired += unpaired
        self._take(first, second, places, made.far[known:])
        if stopped == FULL:
            raise TooManyInputs(len(made.values), kink.name)
        return made

    def _take(self, first: Array, second: Array, places: Array, far: Array) -> None:
        self._grow(first, second, places[:, 0].copy())
