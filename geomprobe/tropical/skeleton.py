"""The mesh of boxes: vertices and edges of a simple complex, and two-dimensional faces by name.

A face is named by the sum of random 64-bit numbers, one for each unit and sign: plus, minus, or
zero where the face lies in the unit's wall. The two edges of a face that a wall crosses find each
other by that name. No linear program is solved, and no sign vector is kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from geomprobe.storage import Array
from geomprobe.tropical.cells import CellMesh
from geomprobe.tropical.faces import face_counts, lowest_faces, stars
from geomprobe.tropical.limits import DegenerateWalls, TooManyInputs
from geomprobe.tropical.merging import Cells
from geomprobe.tropical.signs import any_zero, blend, first_crossing, longer, write_signs
from geomprobe.tropical.tape import Kink

FULL, DEGENERATE = 1, 2
#: Multiplied by it, the low bits of names spread over the others.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


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
        super().__init__(2**dimension)
        d = dimension
        self.dimension = d
        self._random = np.random.default_rng(0)
        self.names = np.empty((0, 3), np.uint64)  # By wall: minus, zero, plus.
        self.source = np.empty(0, np.int64)
        self._name(2 * d, -1)
        corner = np.arange(2**d)
        axis, low = np.nonzero((corner[None] >> np.arange(d)[:, None]) & 1 == 0)
        self.edges = np.stack([low, low | (1 << axis)], 1)
        self.left = np.stack([4 * axis + 1, 4 * axis + 3], 1).astype(np.int32)
        others = np.array([[b for b in range(d) if b != a] for a in range(d)]).reshape(d, -1)[axis]
        self.within = (2 * others + ((low[:, None] >> others) & 1)).astype(np.int32)
        total = self.names[:, 2].sum(dtype=np.uint64)
        zero = self.names[:, 1] - self.names[:, 2]
        self.hashes = total + zero[self.within].sum(axis=1, dtype=np.uint64)
        self.unpaired = 0
        self._limit = limit
        self._kinks: list[str] = []

    def surroundings(self, vertices: Array) -> Surroundings:
        """Return the faces of the complex, from the positions of the vertices, (n, d)."""
        facets = 2 * self.dimension
        wall, far, base, spoiled = stars(
            self.edges, self.left, self.within, self.hashes, self.names, len(vertices)
        )
        # Any direction in which no two vertices are level.
        height = vertices @ np.random.default_rng(1).normal(size=self.dimension)
        counts, missing = face_counts(wall, far, height, facets)
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
        if kink.name not in self._kinks[-1:]:
            self._kinks.append(kink.name)
        walls = len(self.names)
        self._name(heights.shape[1], len(self._kinks) - 1)
        (
            self.edges,
            self.left,
            self.within,
            self.hashes,
            heights,
            first,
            second,
            share,
            unpaired,
            stopped,
        ) = split_skeleton(
            self.edges,
            self.left,
            self.within,
            self.hashes,
            heights,
            known,
            zero,
            self.names,
            byte_sums(self.names[walls:]),
            walls,
            2 * self.dimension,
            self._limit,
        )
        if stopped == DEGENERATE:
            raise DegenerateWalls(kink.name)
        self.unpaired += unpaired
        self._grow(first, second, share)
        if stopped == FULL:
            raise TooManyInputs(len(heights), kink.name)
        return heights


def byte_sums(names: Array) -> Array:
    """Return what the set bits of each byte of the signs of units add, (bytes, 256)."""
    gains = names[:, 2] - names[:, 0]
    gains = np.concatenate([gains, np.zeros(-len(gains) % 8, np.uint64)]).reshape(-1, 8)
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    sums: Array = (gains[:, None, :] * bits.astype(np.uint64)).sum(axis=2, dtype=np.uint64)
    return sums


@njit(cache=True, nogil=True)
def _signs_sum(plus: Array, a: int, b: int, start: int, stop: int, sums: Array, base: Array) -> Any:
    """Return the sum of the names of the signs that units, from start to stop, have on an edge.

    Of its two ends at least one has the sign; the other may lie in the wall.
    """
    total = base[stop] - base[start]
    for byte in range(start >> 3, (stop + 7) >> 3):
        word, shift = byte >> 3, np.uint64(8 * (byte & 7))
        bits = ((plus[a, word] | plus[b, word]) >> shift) & np.uint64(255)
        if byte == start >> 3:
            bits &= np.uint64(0xFF << (start & 7))
        if byte == stop >> 3:
            bits &= np.uint64((1 << (stop & 7)) - 1)
        total += sums[byte, bits]
    return total


@njit(cache=True, nogil=True)
def split_skeleton(  # noqa: D103
    ends: Array,
    left: Array,
    walls: Array,
    hashes: Array,
    heights: Array,
    vertices: int,
    zero: Array,
    names: Array,
    sums: Array,
    known_walls: int,
    facets: int,
    limit: int,
) -> Any:
    units = heights.shape[1]
    known, edges, d1 = vertices, len(ends), walls.shape[1]
    room, more_edges = len(heights), edges
    base = np.zeros(units + 1, np.uint64)
    for u in range(units):
        base[u + 1] = base[u] + names[known_walls + u, 0]
    plus = np.zeros((room, (units + 63) >> 6), np.uint64)
    minus = plus.copy()
    first, second, share = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64)
    unpaired, stopped = 0, 0
    for v in range(vertices):
        if any_zero(heights, v, zero, 0):
            stopped = 2
        write_signs(heights, v, 0, plus, minus)
    # Edges by the first unit that crosses them, as chains; how many units are in their hashes.
    head = np.full(units, -1, np.int64)
    chain = np.full(edges, -1, np.int64)
    done = np.zeros(edges, np.int64)
    for e in range(edges):
        u = first_crossing(plus, minus, ends[e, 0], ends[e, 1], 0)
        if u >= 0:
            chain[e], head[u] = head[u], e
    # The crossed edges of a unit: new vertex, edge, and hash before the cut.
    cut_vertex, cut_edge = np.empty(64, np.int64), np.empty(64, np.int64)
    cut_hash = np.empty(64, np.uint64)
    # Faces that wait for their second crossed edge: an open table by hash.
    table = 256
    key, stamp = np.empty(table, np.uint64), np.full(table, -1, np.int64)
    value = np.empty(table, np.int64)
    for u in range(units):
        if stopped:
            break
        if vertices > limit:
            stopped = 1
            break
        wall = known_walls + u
        cuts = 0
        e = head[u]
        while e >= 0:
            following = chain[e]
            if vertices == room:
                room = 4 * room
                heights = longer(heights, room)
                plus, minus = longer(plus, room), longer(minus, room)
            if edges == more_edges:
                more_edges = 2 * more_edges
                ends, left = longer(ends, more_edges), longer(left, more_edges)
                walls, hashes = longer(walls, more_edges), longer(hashes, more_edges)
                chain, done = longer(chain, more_edges), longer(done, more_edges)
            if vertices - known == len(first):
                first, second = longer(first, 2 * len(first)), longer(second, 2 * len(second))
                share = longer(share, 2 * len(share))
            if cuts == len(cut_vertex):
                cut_vertex, cut_edge = longer(cut_vertex, 2 * cuts), longer(cut_edge, 2 * cuts)
                cut_hash = longer(cut_hash, 2 * cuts)
            a, b, v = ends[e, 0], ends[e, 1], vertices
            s = heights[a, u] / (heights[a, u] - heights[b, u])
            first[v - known], second[v - known], share[v - known] = a, b, s
            vertices += 1
            blend(heights, v, a, b, s)
            heights[v, u] = 0.0
            if any_zero(heights, v, zero, u + 1):
                stopped = 2
            write_signs(heights, v, u + 1, plus, minus)
            hash_ = hashes[e] + _signs_sum(plus, a, b, done[e], u, sums, base)
            cut_vertex[cuts], cut_edge[cuts], cut_hash[cuts] = v, e, hash_
            cuts += 1
            # a - v stays number e, v - b is new.
            side = heights[a, u] > 0.0
            ends[edges, 0], ends[edges, 1] = v, b
            left[edges, 0], left[edges, 1] = 2 * wall + (1 - side), left[e, 1]
            ends[e, 1], left[e, 1] = v, 2 * wall + side
            for i in range(d1):
                walls[edges, i] = walls[e, i]
            up, down = hash_ + names[wall, 2], hash_ + names[wall, 0]
            hashes[e], hashes[edges] = (up, down) if side else (down, up)
            for part in (e, edges):
                done[part] = u + 1
                w = first_crossing(plus, minus, ends[part, 0], ends[part, 1], u + 1)
                if w >= 0:
                    chain[part], head[w] = head[w], part
            edges += 1
            e = following
        # Each face that two of these edges bound is cut by a new edge.
        while table < 8 * cuts * d1:
            table *= 2
            key, value = np.empty(table, np.uint64), np.empty(table, np.int64)
            stamp = np.full(table, -1, np.int64)
        waiting = 0
        for k in range(cuts):
            for i in range(d1):
                released = walls[cut_edge[k], i]
                for side in range(1 if released < facets else 0, 2):
                    face = cut_hash[k] - names[released, 1] + names[released, 2 * side]
                    slot = np.int64((face * _SPREAD) >> np.uint64(20)) & (table - 1)
                    while stamp[slot] == u and key[slot] != face:
                        slot = (slot + 1) & (table - 1)
                    if stamp[slot] != u:
                        stamp[slot], key[slot] = u, face
                        value[slot] = (k * d1 + i) * 2 + side
                        waiting += 1
                        continue
                    if value[slot] < 0:
                        unpaired += 1
                        continue
                    other = value[slot] >> 1
                    other_side, j, m = value[slot] & 1, other % d1, other // d1
                    value[slot] = -1
                    waiting -= 1
                    if edges == more_edges:
                        more_edges = 2 * more_edges
                        ends, left = longer(ends, more_edges), longer(left, more_edges)
                        walls, hashes = longer(walls, more_edges), longer(hashes, more_edges)
                        chain, done = longer(chain, more_edges), longer(done, more_edges)
                    ends[edges, 0], ends[edges, 1] = cut_vertex[m], cut_vertex[k]
                    left[edges, 0] = 2 * walls[cut_edge[m], j] + other_side
                    left[edges, 1] = 2 * released + side
                    for p in range(d1):
                        walls[edges, p] = walls[cut_edge[k], p]
                    walls[edges, i] = wall
                    hashes[edges] = face + names[wall, 1]
                    done[edges] = u + 1
                    w = first_crossing(plus, minus, cut_vertex[m], cut_vertex[k], u + 1)
                    if w >= 0:
                        chain[edges], head[w] = head[w], edges
                    edges += 1
        unpaired += waiting
    for e in range(edges):
        if not stopped:
            hashes[e] += _signs_sum(plus, ends[e, 0], ends[e, 1], done[e], units, sums, base)
    made = vertices - known
    return (
        ends[:edges],
        left[:edges],
        walls[:edges],
        hashes[:edges],
        heights[:vertices],
        first[:made],
        second[:made],
        share[:made],
        unpaired,
        stopped,
    )
