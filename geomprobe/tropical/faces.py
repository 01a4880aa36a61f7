"""The faces of a simple complex, read off its vertices and edges: each at its lowest vertex."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from geomprobe.storage import Array


@njit(cache=True, nogil=True)
def neighbours_of(ends: Array, left: Array, vertices: int, dimension: int) -> tuple[Array, Array, int]:
    """Return, for each vertex, its walls, (vertices, d), and where the edges lead that leave them.

    Returns
    -------
    wall : int array of shape (vertices, d)
    far : int array of shape (vertices, d, 2)
        The other end of the edge that leaves the wall on its negative, and on its positive side;
        -1 where there is none.
    spoiled : int
        Vertices in more walls than dimensions, or with two edges that leave one wall alike.
    """
    wall = np.full((vertices, dimension), -1, np.int64)
    far = np.full((vertices, dimension, 2), -1, np.int64)
    spoiled = 0
    for e in range(len(ends)):
        for end in range(2):
            v, code = ends[e, end], left[e, end]
            slot = 0
            while slot < dimension and wall[v, slot] != -1 and wall[v, slot] != code >> 1:
                slot += 1
            if slot == dimension or far[v, slot, code & 1] != -1:
                spoiled += 1
                continue
            wall[v, slot] = code >> 1
            far[v, slot, code & 1] = ends[e, 1 - end]
    return wall, far, spoiled


@njit(cache=True, nogil=True)
def face_counts(wall: Array, far: Array, height: Array, facets: int) -> tuple[Array, int]:
    r"""Return the number of faces of each dimension, and how many edges are missing.

    At a vertex with :math:`u_i` edges that leave wall i upwards, the faces of dimension k that have
    it as their lowest vertex are as many as the elementary symmetric polynomial
    :math:`e_k(u_1, \ldots, u_d)`.
    """
    vertices, d = wall.shape
    counts = np.zeros(d + 1, np.int64)
    poly = np.empty(d + 1, np.int64)
    missing = 0
    for v in range(vertices):
        poly[:] = 0
        poly[0] = 1
        for i in range(d):
            ups = 0
            for side in range(2):
                w = far[v, i, side]
                if w >= 0:
                    ups += height[w] > height[v]
                else:
                    missing += wall[v, i] >= facets or side == 1
            for k in range(i + 1, 0, -1):
                poly[k] += poly[k - 1] * ups
        counts += poly
    return counts, missing
