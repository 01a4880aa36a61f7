"""Convex polygons as half-edges, compiled: lines cut them, one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from geomprobe.storage import Array
from geomprobe.tropical.signs import any_zero, blend, first_crossing, longer, write_signs


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
    room, more_edges, more_faces = len(heights), edges, faces
    plus = np.zeros((room, (units + 63) >> 6), np.uint64)
    minus = plus.copy()
    first, second, share = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room)
    leaving = np.empty(room, np.int64)
    for h in range(2 * edges):
        leaving[origin[h]] = h
    # Edges by the first unit whose line crosses them, and vertices by the first on whose line they
    # lie: chains.
    head, chain = np.full(units, -1, np.int64), np.empty(edges, np.int64)
    zero_head, zero_chain = np.full(units, -1, np.int64), np.empty(room, np.int64)
    snapped = 0
    for v in range(vertices):
        snapped += _snap(heights, v, 0, zero, zero_head, zero_chain)
        write_signs(heights, v, 0, plus, minus)
    for e in range(edges):
        _enlist(e, origin, plus, minus, 0, head, chain)
    # By polygon: the unit that last touched it, how often, and from which half-edges.
    stamp, count = np.full(faces, -1, np.int64), np.zeros(faces, np.int64)
    entry = np.empty((faces, 2), np.int64)
    # Half-edges that start where the line meets an edge, and the polygons they bound.
    hits, touched = np.empty(64, np.int64), np.empty(64, np.int64)
    unresolved = 0
    finished = True
    for u in range(units):
        if vertices > limit:
            finished = False
            break
        # Room for a vertex and an edge where it crosses an edge, and for an edge and a polygon
        # where it crosses a polygon, by two of the half-edges that it meets.
        crossed, e = 0, head[u]
        while e >= 0:
            crossed, e = crossed + 1, chain[e]
        met, v = 2 * crossed, zero_head[u]
        while v >= 0:
            met += _around(before, leaving[v], hits, len(hits))
            v = zero_chain[v]
        if vertices + crossed > room:
            room = max(4 * room, vertices + crossed)
            heights, plus, minus = longer(heights, room), longer(plus, room), longer(minus, room)
            first, second, share = longer(first, room), longer(second, room), longer(share, room)
            leaving, zero_chain = longer(leaving, room), longer(zero_chain, room)
        if edges + crossed + met > more_edges:
            more_edges = max(2 * more_edges, edges + crossed + met)
            origin, following = longer(origin, 2 * more_edges), longer(following, 2 * more_edges)
            before, face = longer(before, 2 * more_edges), longer(face, 2 * more_edges)
            source, chain = longer(source, more_edges), longer(chain, more_edges)
        if faces + met > more_faces:
            more_faces = max(2 * more_faces, faces + met)
            stamp, count = longer(stamp, more_faces), longer(count, more_faces)
            entry = longer(entry, more_faces)
        if met > len(hits):
            hits, touched = np.empty(2 * met, np.int64), np.empty(2 * met, np.int64)
        # 1. New vertices where the line crosses edges.
        n_hits, e = 0, head[u]
        while e >= 0:
            next_edge = chain[e]
            a, b, v = origin[2 * e], origin[2 * e + 1], vertices
            first[v], second[v] = a, b
            share[v] = heights[a, u] / (heights[a, u] - heights[b, u])
            blend(heights, v, a, b, share[v])
            heights[v, u] = 0.0
            snapped += _snap(heights, v, u + 1, zero, zero_head, zero_chain)
            write_signs(heights, v, u + 1, plus, minus)
            _divide(origin, following, before, face, leaving, e, edges, v)
            source[edges] = source[e]
            hits[n_hits], hits[n_hits + 1] = 2 * edges, 2 * e + 1
            _enlist(e, origin, plus, minus, u + 1, head, chain)
            _enlist(edges, origin, plus, minus, u + 1, head, chain)
            n_hits, vertices, edges, e = n_hits + 2, vertices + 1, edges + 1, next_edge
        # 2. Old vertices that the line goes through.
        v = zero_head[u]
        while v >= 0:
            next_vertex = zero_chain[v]
            n_hits += _around(before, leaving[v], hits, n_hits)
            _snap(heights, v, u + 1, zero, zero_head, zero_chain)
            v = next_vertex
        # 3. Polygons, each with the vertices where the line meets its border.
        n_touched = 0
        for k in range(n_hits):
            f = face[hits[k]]
            if f < 0:
                continue
            if stamp[f] != u:
                stamp[f], count[f] = u, 0
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
                unresolved += _straddles(origin, following, heights, u, h1)
                continue
            _separate(origin, following, before, face, h1, h2, edges, faces)
            source[edges] = kink
            stamp[faces] = u
            _enlist(edges, origin, plus, minus, u + 1, head, chain)
            edges, faces = edges + 1, faces + 1
    return (
        origin[: 2 * edges],
        following[: 2 * edges],
        before[: 2 * edges],
        face[: 2 * edges],
        source[:edges],
        faces,
        heights[:vertices],
        first[known:vertices],
        second[known:vertices],
        share[known:vertices],
        unresolved,
        snapped,
        finished,
    )


@njit(cache=True, nogil=True)
def _snap(heights: Array, v: int, start: int, zero: Array, head: Array, chain: Array) -> int:
    """Make entries of a vertex zero that are so to their tolerance; enlist it at the first.

    Returns how many there are.
    """
    if not any_zero(heights, v, zero, start):
        return 0
    first, snapped = -1, 0
    for u in range(heights.shape[1] - 1, start - 1, -1):
        if abs(heights[v, u]) <= zero[u]:
            snapped += 1
            heights[v, u] = 0.0
            first = u
    chain[v], head[first] = head[first], v
    return snapped


@njit(cache=True, nogil=True)
def _enlist(
    edge: int, origin: Array, plus: Array, minus: Array, start: int, head: Array, chain: Array
) -> None:
    """Put an edge into the chain of the first unit, from ``start`` on, that crosses it."""
    u = first_crossing(plus, minus, origin[2 * edge], origin[2 * edge + 1], start)
    if u >= 0:
        chain[edge], head[u] = head[u], edge


@njit(cache=True, nogil=True)
def _around(before: Array, start: int, hits: Array, place: int) -> int:
    """Count the half-edges that leave a vertex, and write those down for which there is room."""
    h, n = start, 0
    while True:
        if place + n < len(hits):
            hits[place + n] = h
        n += 1
        h = before[h] ^ 1
        if h == start:
            return n


@njit(cache=True, nogil=True)
def _divide(
    origin: Array,
    following: Array,
    before: Array,
    face: Array,
    leaving: Array,
    e: int,
    fresh: int,
    v: int,
) -> None:
    """Put a vertex on edge e: what was a to b is a to v, and v to b is the fresh edge."""
    h, g, h2, g2 = 2 * e, 2 * e + 1, 2 * fresh, 2 * fresh + 1
    b = origin[g]
    origin[h2], origin[g2], origin[g] = v, b, v
    following[h2], before[following[h]] = following[h], h2
    following[h], before[h2] = h2, h
    before[g2], following[before[g]] = before[g], g2
    following[g2], before[g] = g, g2
    face[h2], face[g2] = face[h], face[g]
    leaving[v] = h2
    if leaving[b] == g:
        leaving[b] = g2


@njit(cache=True, nogil=True)
def _separate(
    origin: Array,
    following: Array,
    before: Array,
    face: Array,
    h1: int,
    h2: int,
    fresh: int,
    new_face: int,
) -> None:
    """Cut a polygon by a fresh edge, from where one of its half-edges starts to where another."""
    c, d = 2 * fresh, 2 * fresh + 1
    p1, p2 = before[h1], before[h2]
    origin[c], origin[d] = origin[h1], origin[h2]
    following[p1], before[c], following[c], before[h2] = c, p1, h2, c
    following[p2], before[d], following[d], before[h1] = d, p2, h1, d
    face[c] = face[h1]
    h = d
    while True:
        face[h] = new_face
        h = following[h]
        if h == d:
            break


@njit(cache=True, nogil=True)
def _straddles(origin: Array, following: Array, heights: Array, unit: int, start: int) -> bool:
    """Return whether a polygon has corners on both sides of the line of a unit."""
    up, down = False, False
    h = start
    while True:
        value = heights[origin[h], unit]
        up, down = up or value > 0.0, down or value < 0.0
        h = following[h]
        if h == start:
            return up and down


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
