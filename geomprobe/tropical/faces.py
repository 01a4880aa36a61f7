"""The faces of a simple complex, read off its vertices and edges: each at its lowest vertex."""

from __future__ import annotations

import numpy as np
from numba import njit

from geomprobe.storage import Array


@njit(cache=True, nogil=True)
def stars(
    ends: Array, left: Array, walls: Array, hashes: Array, names: Array, vertices: int
) -> tuple[Array, Array, Array, int]:
    """Return what surrounds each vertex.

    Parameters
    ----------
    ends, left, walls, hashes, names
        As of :class:`~geomprobe.tropical.skeleton.Skeleton`, with d - 1 walls an edge.

    Returns
    -------
    wall : int array of shape (vertices, d)
        The walls that the vertex lies in.
    far : int array of shape (vertices, d, 2)
        The other end of the edge that leaves each wall on its negative, and on its positive side;
        -1 where there is none.
    base : uint64 array of shape (vertices,)
        The sum of the names of the signs of all other walls.
    spoiled : int
        How often edges contradict each other about these.
    """
    d = walls.shape[1] + 1
    wall = np.full((vertices, d), -1, np.int64)
    far = np.full((vertices, d, 2), -1, np.int64)
    base = np.zeros(vertices, np.uint64)
    seen = np.zeros(vertices, np.bool_)
    spoiled = 0
    for e in range(len(ends)):
        rest = hashes[e]
        for i in range(d - 1):
            rest -= names[walls[e, i], 1]
        for end in range(2):
            v, w, side = ends[e, end], left[e, end] >> 1, left[e, end] & 1
            sum_ = rest - names[w, 2 * side]
            if seen[v] and base[v] != sum_:
                spoiled += 1
            base[v], seen[v] = sum_, True
            slot = 0
            while slot < d and wall[v, slot] != -1 and wall[v, slot] != w:
                slot += 1
            if slot == d or far[v, slot, side] != -1:
                spoiled += 1
                continue
            wall[v, slot] = w
            far[v, slot, side] = ends[e, 1 - end]
    return wall, far, base, spoiled


@njit(cache=True, nogil=True)
def face_counts(wall: Array, far: Array, height: Array, facets: int) -> tuple[Array, int]:
    r"""Return the number of faces of each dimension, and of edges that are missing.

    At a vertex with :math:`u_i` edges that leave wall i upwards, the faces of dimension k whose
    lowest vertex it is are as many as the elementary symmetric polynomial
    :math:`e_k(u_1, \ldots, u_d)`.
    """
    vertices, d = wall.shape
    counts = np.zeros(d + 1, np.int64)
    found = np.empty(d + 1, np.int64)
    missing = 0
    for v in range(vertices):
        found[:] = 0
        found[0] = 1
        for i in range(d):
            ups = 0
            for side in range(2):
                if far[v, i, side] < 0:
                    missing += wall[v, i] >= facets or side == 1
                elif height[far[v, i, side]] > height[v]:
                    ups += 1
            for k in range(i + 1, 0, -1):
                found[k] += ups * found[k - 1]
        counts += found
    return counts, missing


@njit(cache=True, nogil=True)
def lowest_faces(
    wall: Array, far: Array, base: Array, names: Array, height: Array, cells: int, walls: int
) -> tuple[Array, Array, Array]:
    """List cells and inner walls, each at its lowest vertex.

    Returns
    -------
    key : uint64 array of shape (cells,)
        The name of each cell.
    corners : int array of shape (cells, d + 1)
        Its lowest vertex, and the other ends of the edges there.
    sides : uint64 array of shape (walls, 2)
        The names of the cells on either side of each wall.
    """
    vertices, d = wall.shape
    key, corners = np.empty(cells, np.uint64), np.empty((cells, d + 1), np.int64)
    sides = np.empty((walls, 2), np.uint64)
    n_cells, n_walls = 0, 0
    up = np.empty((d, 2), np.int64)  # Sides on which an edge leads up, the first ``ups``.
    ups = np.empty(d, np.int64)
    for v in range(vertices):
        for i in range(d):
            ups[i] = 0
            for side in range(2):
                w = far[v, i, side]
                if w >= 0 and height[w] > height[v]:
                    up[i, ups[i]] = side
                    ups[i] += 1
        # Cells first, then the walls that lie in wall number ``free``.
        for free in range(-1, d if walls else 0):
            if free >= 0 and (far[v, free, 0] < 0 or far[v, free, 1] < 0):
                continue
            choices = 1
            for i in range(d):
                if i != free:
                    choices *= ups[i]
            for choice in range(choices):
                name, rest = base[v], choice
                for i in range(d):
                    if i == free:
                        continue
                    side = up[i, rest % ups[i]]
                    rest //= ups[i]
                    name += names[wall[v, i], 2 * side]
                    if free < 0:
                        corners[n_cells, i] = far[v, i, side]
                if free < 0:
                    corners[n_cells, d] = v
                    key[n_cells] = name
                    n_cells += 1
                else:
                    sides[n_walls, 0] = name + names[wall[v, free], 0]
                    sides[n_walls, 1] = name + names[wall[v, free], 2]
                    n_walls += 1
    return key, corners, sides[:n_walls]
