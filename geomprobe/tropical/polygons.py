"""The mesh of plane slices: convex polygons as half-edges, cut by lines also through vertices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from geomprobe.storage import Array
from geomprobe.tropical.cells import CellMesh
from geomprobe.tropical.limits import TooManyInputs
from geomprobe.tropical.merging import Cells
from geomprobe.tropical.signs import any_zero, blend, first_crossing, longer, write_signs
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
    snapped : int
        How often a vertex was moved on to a line that passes it within rounding.
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
        self.unresolved = self.snapped = 0
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

    def notes(self) -> list[str]:
        """Return what a reader must know."""
        if not self.snapped:
            return []
        return [
            f"Not in general position: {self.snapped} times a vertex was taken to lie on a line "
            "that passes it within rounding."
        ]

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


@njit(cache=True, nogil=True)
def split_polygons(  # noqa: D103
    origin: Array,
    following: Array,
    before: Array,
    face: Array,
    source: Array,
    faces: int,
    heights: Array,
    vertices: int,
    zero: Array,
    kink: int,
    limit: int,
) -> Any:
    units = heights.shape[1]
    known, edges = vertices, len(source)
    # Everything grows; there are at most as many edges as three times the vertices.
    room, more_edges, more_faces = len(heights), edges, faces
    plus = np.zeros((room, (units + 63) >> 6), np.uint64)
    minus = plus.copy()
    leaving = np.empty(room, np.int64)
    for h in range(2 * edges):
        leaving[origin[h]] = h
    # Vertices on the line of each unit, and edges by the first unit that crosses them: chains.
    zero_head = np.full(units, -1, np.int64)
    zero_vertex, zero_next = np.empty(64, np.int64), np.empty(64, np.int64)
    zeros, snapped = 0, 0
    for v in range(vertices):
        for u in range(units if any_zero(heights, v, zero, 0) else 0):
            if abs(heights[v, u]) <= zero[u]:
                snapped += heights[v, u] != 0.0
                heights[v, u] = 0.0
                if zeros == len(zero_vertex):
                    zero_vertex = longer(zero_vertex, 2 * zeros)
                    zero_next = longer(zero_next, 2 * zeros)
                zero_vertex[zeros], zero_next[zeros] = v, zero_head[u]
                zero_head[u] = zeros
                zeros += 1
        write_signs(heights, v, 0, plus, minus)
    head = np.full(units, -1, np.int64)
    chain = np.full(edges, -1, np.int64)
    for e in range(edges):
        u = first_crossing(plus, minus, origin[2 * e], origin[2 * e + 1], 0)
        if u >= 0:
            chain[e], head[u] = head[u], e
    # By polygon: the unit that last touched it, how often, and from which half-edges.
    stamp = np.full(faces, -1, np.int64)
    count = np.zeros(faces, np.int64)
    entry = np.empty((faces, 2), np.int64)
    touched = np.empty(64, np.int64)
    first, second, share = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64)
    unresolved = 0
    finished = True
    hits = np.empty(64, np.int64)
    for u in range(units):
        if vertices > limit:
            finished = False
            break
        n_hits = 0
        # 1. New vertices where the line crosses edges.
        e = head[u]
        while e >= 0:
            following_edge = chain[e]
            if vertices == room:
                room = 4 * room
                heights = longer(heights, room)
                plus, minus = longer(plus, room), longer(minus, room)
                leaving = longer(leaving, room)
            if edges + 1 >= more_edges:
                more_edges = 2 * more_edges + 2
                halves = 2 * more_edges
                origin, following = longer(origin, halves), longer(following, halves)
                before, face = longer(before, halves), longer(face, halves)
                source, chain = longer(source, more_edges), longer(chain, more_edges)
            if vertices - known == len(first):
                first, second = longer(first, 2 * len(first)), longer(second, 2 * len(second))
                share = longer(share, 2 * len(share))
            if n_hits + 2 > len(hits):
                hits = longer(hits, 2 * len(hits))
            h, g = 2 * e, 2 * e + 1
            a, b, v = origin[h], origin[g], vertices
            s = heights[a, u] / (heights[a, u] - heights[b, u])
            first[v - known], second[v - known], share[v - known] = a, b, s
            vertices += 1
            blend(heights, v, a, b, s)
            heights[v, u] = 0.0
            for w in range(u + 1, units if any_zero(heights, v, zero, u + 1) else 0):
                if abs(heights[v, w]) <= zero[w]:
                    snapped += heights[v, w] != 0.0
                    heights[v, w] = 0.0
                    if zeros == len(zero_vertex):
                        zero_vertex = longer(zero_vertex, 2 * zeros)
                        zero_next = longer(zero_next, 2 * zeros)
                    zero_vertex[zeros], zero_next[zeros] = v, zero_head[w]
                    zero_head[w] = zeros
                    zeros += 1
            write_signs(heights, v, u + 1, plus, minus)
            # a -> v stays number e, v -> b is new.
            h2, g2 = 2 * edges, 2 * edges + 1
            source[edges] = source[e]
            origin[h2], origin[g2], origin[g] = v, b, v
            following[h2], before[following[h]] = following[h], h2
            following[h], before[h2] = h2, h
            before[g2], following[before[g]] = before[g], g2
            following[g2], before[g] = g, g2
            face[h2], face[g2] = face[h], face[g]
            leaving[v] = h2
            if leaving[b] == g:
                leaving[b] = g2
            hits[n_hits], hits[n_hits + 1] = h2, g
            n_hits += 2
            for part in (e, edges):
                w = first_crossing(plus, minus, origin[2 * part], origin[2 * part + 1], u + 1)
                if w >= 0:
                    chain[part], head[w] = head[w], part
            edges += 1
            e = following_edge
        # 2. Old vertices that the line goes through.
        z = zero_head[u]
        while z >= 0:
            start = leaving[zero_vertex[z]]
            h = start
            while True:
                if n_hits == len(hits):
                    hits = longer(hits, 2 * len(hits))
                hits[n_hits] = h
                n_hits += 1
                h = before[h] ^ 1
                if h == start:
                    break
            z = zero_next[z]
        # 3. Polygons, each with the vertices where the line meets its border.
        n_touched = 0
        for k in range(n_hits):
            f = face[hits[k]]
            if f < 0:
                continue
            if stamp[f] != u:
                stamp[f], count[f] = u, 0
                if n_touched == len(touched):
                    touched = longer(touched, 2 * len(touched))
                touched[n_touched] = f
                n_touched += 1
            if count[f] < 2:
                entry[f, count[f]] = hits[k]
            count[f] += 1
        for k in range(n_touched):
            f = touched[k]
            h1, h2 = entry[f, 0], entry[f, 1]
            one, other = heights[origin[following[h1]], u], heights[origin[following[h2]], u]
            if count[f] != 2 or not ((one > 0.0 and other < 0.0) or (one < 0.0 and other > 0.0)):
                # It touches a corner or a side: nothing to cut, unless signs differ all the same.
                up, down = False, False
                h = h1
                while True:
                    value = heights[origin[h], u]
                    up, down = up or value > 0.0, down or value < 0.0
                    h = following[h]
                    if h == h1:
                        break
                unresolved += up and down
                continue
            if edges >= more_edges:
                more_edges = 2 * more_edges + 2
                halves = 2 * more_edges
                origin, following = longer(origin, halves), longer(following, halves)
                before, face = longer(before, halves), longer(face, halves)
                source, chain = longer(source, more_edges), longer(chain, more_edges)
            if faces == more_faces:
                more_faces = 2 * more_faces
                stamp, count = longer(stamp, more_faces), longer(count, more_faces)
                entry = longer(entry, more_faces)
            c, d = 2 * edges, 2 * edges + 1
            p1, p2 = before[h1], before[h2]
            origin[c], origin[d] = origin[h1], origin[h2]
            following[p1], before[c], following[c], before[h2] = c, p1, h2, c
            following[p2], before[d], following[d], before[h1] = d, p2, h1, d
            face[c] = f
            source[edges] = kink
            h = d
            while True:
                face[h] = faces
                h = following[h]
                if h == d:
                    break
            stamp[faces] = u
            faces += 1
            w = first_crossing(plus, minus, origin[c], origin[d], u + 1)
            if w >= 0:
                chain[edges], head[w] = head[w], edges
            edges += 1
    made = vertices - known
    return (
        origin[: 2 * edges],
        following[: 2 * edges],
        before[: 2 * edges],
        face[: 2 * edges],
        source[:edges],
        faces,
        heights[:vertices],
        first[:made],
        second[:made],
        share[:made],
        unresolved,
        snapped,
        finished,
    )


@njit(cache=True, nogil=True)
def loops(origin: Array, following: Array, face: Array, faces: int) -> tuple[Array, Array]:
    """Return the vertices of each polygon in turn, and where each begins."""
    first = np.full(faces, -1, np.int64)
    for h in range(len(face)):
        if face[h] >= 0:
            first[face[h]] = h
    corners, starts = np.empty(len(face), np.int64), np.empty(faces, np.int64)
    n = 0
    for f in range(faces):
        starts[f] = n
        h = first[f]
        while True:
            corners[n] = origin[h]
            n += 1
            h = following[h]
            if h == first[f]:
                break
    return corners[:n], starts
