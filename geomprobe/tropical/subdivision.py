"""Edges split unit by unit, compiled; two split edges of one face are joined by a new edge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from geomprobe.storage import Array
from geomprobe.tropical.far import blend_far, meet, near_zero
from geomprobe.tropical.signs import any_zero, blend, first_crossing, longer, write_signs

#: Why a subdivision stopped before its end.
FULL, DEGENERATE = 1, 2
#: Multiplied by it, the low bits of names spread over the others.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
#: Bits of a tag below the number of the unit.
_TAG = np.uint64(40)
_NONE, _ONE = np.uint64(0), np.uint64(1)


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
def _enlist(
    edge: int, ends: Array, plus: Array, minus: Array, start: int, head: Array, chain: Array
) -> None:
    """Put an edge into the chain of the first unit, from ``start`` on, that crosses it."""
    u = first_crossing(plus, minus, ends[edge, 0], ends[edge, 1], start)
    if u >= 0:
        chain[edge], head[u] = head[u], edge


@njit(cache=True, nogil=True)
def split_skeleton(  # noqa: D103
    ends: Array,
    left: Array,
    walls: Array,
    hashes: Array,
    heights: Array,
    slopes: Array,
    offsets: Array,
    sizes: Array,
    far: Array,
    width: float,
    vertices: int,
    zero: Array,
    names: Array,
    sums: Array,
    known_walls: int,
    facets: int,
    limit: int,
) -> Any:
    # Of a box, heights are all there is: slopes, offsets, sizes and far are empty.
    wide, units = len(sizes) > 0, heights.shape[1]
    known, edges, d1 = vertices, len(ends), walls.shape[1]
    room, more_edges = len(heights), edges
    base = np.zeros(units + 1, np.uint64)
    for u in range(units):
        base[u + 1] = base[u] + names[known_walls + u, 0]
    plus = np.zeros((room, (units + 63) >> 6), np.uint64)
    minus = plus.copy()
    first, second, places = np.empty(room, np.int64), np.empty(room, np.int64), np.empty((room, 3))
    unpaired, stopped = 0, 0
    for v in range(vertices):
        if wide:
            if near_zero(heights, slopes, sizes, v, zero, 0, width):
                stopped = DEGENERATE
        elif any_zero(heights, v, zero, 0):
            stopped = DEGENERATE
        write_signs(heights, v, 0, plus, minus)
    # Edges by the first unit that crosses them, as chains; how many units are in their hashes.
    head = np.full(units, -1, np.int64)
    chain = np.full(edges, -1, np.int32)
    done = np.zeros(edges, np.int32)
    for e in range(edges):
        _enlist(e, ends, plus, minus, 0, head, chain)
    # The crossed edges of a unit: new vertex, edge, and hash before the cut.
    cut_vertex, cut_edge = np.empty(64, np.int64), np.empty(64, np.int64)
    cut_hash = np.empty(64, np.uint64)
    # Faces that wait for their second crossed edge: an open table by hash, of names and of tags.
    # These are the number of the unit, from 1 on, and below it, from 1 on, where the first one is.
    table = 256
    slots = np.zeros((table, 2), np.uint64)
    for u in range(units):
        if stopped:
            break
        if vertices > limit:
            stopped = FULL
            break
        wall = known_walls + u
        # Room for a vertex and an edge where it crosses an edge, and for an edge where it crosses a
        # face: two crossed edges bound it, each of them bounds 2 (d - 1).
        crossed, e = 0, head[u]
        while e >= 0:
            crossed, e = crossed + 1, chain[e]
        if vertices + crossed > room:
            room = max(4 * room, vertices + crossed)
            heights, plus, minus = longer(heights, room), longer(plus, room), longer(minus, room)
            first, second = longer(first, room), longer(second, room)
            places = longer(places, room)
            if wide:
                slopes, offsets = longer(slopes, room), longer(offsets, room)
                sizes, far = longer(sizes, room), longer(far, room)
        if edges + crossed * (1 + d1) > more_edges:
            more_edges = max(2 * more_edges, edges + crossed * (1 + d1))
            ends, left = longer(ends, more_edges), longer(left, more_edges)
            walls, hashes = longer(walls, more_edges), longer(hashes, more_edges)
            chain, done = longer(chain, more_edges), longer(done, more_edges)
        if crossed > len(cut_vertex):
            cut_vertex, cut_edge = np.empty(2 * crossed, np.int64), np.empty(2 * crossed, np.int64)
            cut_hash = np.empty(2 * crossed, np.uint64)
        cuts, e = 0, head[u]
        while e >= 0:
            following = chain[e]
            a, b, v = ends[e, 0], ends[e, 1], vertices
            first[v], second[v] = a, b
            vertices += 1
            if wide:
                place = meet(heights, slopes, offsets, a, b, u, zero[u], width)
                far[v] = walls[e].min() < facets
                blend_far(heights, slopes, offsets, v, a, b, place, far[v])
                places[v, 0], places[v, 1], places[v, 2] = place
                sizes[v] = (1.0 - place[0]) * sizes[a] + place[0] * sizes[b] + 2.0 * abs(place[2])
                heights[v, u] = slopes[v, u] = offsets[v, u] = 0.0
                # Along an edge that leads far out it changes sign by rounding alone.
                along = place[2] == 0.0 and not far[v] and (far[a] or far[b])
                if along or near_zero(heights, slopes, sizes, v, zero, u + 1, width):
                    stopped = DEGENERATE
            else:
                places[v, 0] = heights[a, u] / (heights[a, u] - heights[b, u])
                blend(heights, v, a, b, places[v, 0])
                heights[v, u] = 0.0
                if any_zero(heights, v, zero, u + 1):
                    stopped = DEGENERATE
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
                _enlist(part, ends, plus, minus, u + 1, head, chain)
            edges += 1
            e = following
        # Each face that two of these edges bound is cut by a new edge.
        while table < 4 * cuts * d1:
            table *= 2
        if table > len(slots):
            slots = np.zeros((table, 2), np.uint64)
        now = np.uint64(u + 1) << _TAG
        waiting = 0
        for k in range(cuts):
            for i in range(d1):
                released = walls[cut_edge[k], i]
                for side in range(1 if released < facets else 0, 2):
                    face = cut_hash[k] - names[released, 1] + names[released, 2 * side]
                    slot = np.int64((face * _SPREAD) >> np.uint64(20)) & (table - 1)
                    while slots[slot, 1] >= now and slots[slot, 0] != face:
                        slot = (slot + 1) & (table - 1)
                    found = slots[slot, 1] - now
                    if slots[slot, 1] < now:
                        slots[slot, 0] = face
                        slots[slot, 1] = now + np.uint64((k * d1 + i) * 2 + side + 1)
                        waiting += 1
                        continue
                    if found == _NONE:
                        unpaired += 1
                        continue
                    other = np.int64(found - _ONE) >> 1
                    other_side, j, m = np.int64(found - _ONE) & 1, other % d1, other // d1
                    slots[slot, 1] = now
                    waiting -= 1
                    ends[edges, 0], ends[edges, 1] = cut_vertex[m], cut_vertex[k]
                    left[edges, 0] = 2 * walls[cut_edge[m], j] + other_side
                    left[edges, 1] = 2 * released + side
                    for p in range(d1):
                        walls[edges, p] = walls[cut_edge[k], p]
                    walls[edges, i] = wall
                    hashes[edges] = face + names[wall, 1]
                    done[edges] = u + 1
                    _enlist(edges, ends, plus, minus, u + 1, head, chain)
                    edges += 1
        unpaired += waiting
    for e in range(edges):
        if not stopped:
            hashes[e] += _signs_sum(plus, ends[e, 0], ends[e, 1], done[e], units, sums, base)
    return (
        ends[:edges],
        left[:edges],
        walls[:edges],
        hashes[:edges],
        heights[:vertices],
        slopes[:vertices],
        offsets[:vertices],
        sizes[:vertices],
        far[:vertices],
        first[known:vertices],
        second[known:vertices],
        places[known:vertices],
        unpaired,
        stopped,
    )
