"""The mesh of plane slices: convex polygons as half-edges, cut by lines also through vertices."""

from __future__ import annotations

import numpy as np

from geomprobe.storage import Array
from geomprobe.tropical.cells import CellMesh
from geomprobe.tropical.half_edges import loops, split_polygons
from geomprobe.tropical.limits import TooManyInputs
from geomprobe.tropical.merging import Cells
from geomprobe.tropical.tape import Kink


class Polygons(CellMesh):
    """A convex polygon, cut into convex polygons.

    Parameters
    ----------
    corners : int
        Of the polygon, counter-clockwise.
    limit : int
        Most vertices to keep.

    Attributes
    ----------
    origin, following, face : int array of shape (2 edges,)
        Of each half-edge: the vertex it starts at, the next one round its polygon, and that
        polygon, -1 outside. The other half of number h is h ^ 1.
    source : int array of shape (edges,)
        Which kink drew the edge; -1 on the border.
    faces : int
    unresolved : int
        Polygons that a line crosses, and that could not be cut.
    """

    def __init__(self, corners: int, limit: int) -> None:
        super().__init__(corners)
        inner, outer = 2 * np.arange(corners), 2 * np.arange(corners) + 1
        self.origin = np.empty(2 * corners, np.int64)
        self.following, self._before = self.origin.copy(), self.origin.copy()
        self.origin[inner] = np.arange(corners)
        self.origin[outer] = np.roll(np.arange(corners), -1)
        self.following[inner], self._before[inner] = np.roll(inner, -1), np.roll(inner, 1)
        self.following[outer], self._before[outer] = np.roll(outer, 1), np.roll(outer, -1)
        self.face = np.tile([0, -1], corners)
        self.source = np.full(corners, -1)
        self.faces = 1
        self.unresolved = 0
        self._limit = limit
        self._kinks: list[str] = []

    def cells(self) -> Cells:
        """Return the polygons, with their corners counter-clockwise."""
        return Cells(*loops(self.origin, self.following, self.face, self.faces))

    def walls(self) -> Array:
        """Return the polygons on both sides of each inner edge, (walls, 2)."""
        sides = self.face.reshape(-1, 2)
        return sides[(sides >= 0).all(axis=1)]

    def failures(self) -> list[str]:
        """Return what went wrong."""
        count = self.unresolved
        return [f"{count} polygons that a line crosses could not be cut"] if count else []

    @property
    def edges(self) -> Array:
        """The ends of each edge, (edges, 2)."""
        return self.origin.reshape(-1, 2)

    def _split(self, heights: Array, known: int, zero: Array, kink: Kink) -> Array:
        if kink.name not in self._kinks[-1:]:
            self._kinks.append(kink.name)
        (
            self.origin,
            self.following,
            self._before,
            self.face,
            self.source,
            self.faces,
            heights,
            first,
            second,
            share,
            unresolved,
            snapped,
            finished,
        ) = split_polygons(
            self.origin,
            self.following,
            self._before,
            self.face,
            self.source,
            self.faces,
            heights,
            known,
            zero,
            len(self._kinks) - 1,
            self._limit,
        )
        self.unresolved += unresolved
        self.snapped += snapped
        if not finished:
            raise TooManyInputs(len(heights), kink.name)
        self._grow(first, second, share)
        return heights
