"""The mesh of the segments: inputs along straight lines, cut where a network bends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from torch import Tensor

from geomprobe.storage import Array
from geomprobe.tropical.limits import TooManyInputs
from geomprobe.tropical.tape import Kink

#: Breakpoints closer together than this share of a segment are one.
TOLERANCE = 1e-12


class Polyline:
    """Inputs on segments, in order; between neighbours on a segment everything is affine.

    Parameters
    ----------
    segments : int
        How many.
    limit : int
        Most inputs to keep.

    Attributes
    ----------
    segment : int array of shape (n,)
        On which segment each input lies.
    t : float64 array of shape (n,)
        Where on it, from 0 to 1.
    origin : int array of shape (n,)
        The number of the kink that made it a breakpoint; -1 at the ends of segments.
    """

    def __init__(self, segments: int, limit: int) -> None:
        self.segment = np.repeat(np.arange(segments), 2)
        self.t = np.tile([0.0, 1.0], segments)
        self.origin = np.full(2 * segments, -1)
        self.version = 0
        self._limit = limit
        self._kinks = -1
        # By version, where its inputs are now.
        self._places = [np.arange(2 * segments)]

    def lift(self, rows: Tensor, version: int) -> Tensor:
        """Interpolate rows of a former version."""
        return interpolate(rows, self._places[version], self.t)

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Cut the segments where an operation bends, and apply it."""
        self._kinks += 1
        if kink.bend.windows is None:
            (entries,) = rows
            for threshold in kink.bend.thresholds:
                entries = self._cut(entries - threshold, kink) + threshold
            return kink.apply(entries)
        candidates = kink.bend.windows(*rows)
        best = self._cut_envelope(candidates, kink)
        return kink.bend.sign * best.reshape(-1, *kink.shape)

    def _cut(self, heights: Tensor, kink: Kink) -> Tensor:
        """Add the zeros of heights, (n, *shape), and return them, lifted, with exact zeros."""
        flat = heights.flatten(1)
        left, unit, share = crossings(_array(flat), self.segment)
        if not len(left):
            return heights
        former = self.version
        rows = self._insert(left, share, kink)
        lifted = flat.clone() if self.version == former else self.lift(flat, former)
        lifted[_index(rows, flat), _index(unit, flat)] = 0.0
        return lifted.reshape(-1, *heights.shape[1:])

    def _cut_envelope(self, candidates: Tensor, kink: Kink) -> Tensor:
        """Add the corners of maxima of candidates, (n, units, k); return the maxima, (n, units)."""
        left, _unit, share, _winner = envelope_corners(_array(candidates), self.segment)
        former = self.version
        if len(left):
            self._insert(left, share, kink)
        if self.version != former:
            candidates = self.lift(candidates, former)
        return candidates.amax(-1)

    def _insert(self, left: Array, share: Array, kink: Kink) -> Array:
        """Add inputs between each ``left`` and its neighbour; return where they are then."""
        start, end = self.t[left], self.t[left + 1]
        t = start + share * (end - start)
        # Those that are at a neighbour already, to rounding, are that neighbour.
        at_left, at_right = t - start <= TOLERANCE, end - t <= TOLERANCE
        order = np.lexsort((t, left))
        fresh = order[~(at_left | at_right)[order]]
        first = np.ones(len(fresh), bool)
        first[1:] = (np.diff(left[fresh]) != 0) | (np.diff(t[fresh]) > TOLERANCE)
        made = fresh[first]
        n = len(self.t)
        if n + len(made) > self._limit:
            raise TooManyInputs(n + len(made), kink.name)
        moved = np.arange(n)
        moved[1:] += np.cumsum(np.bincount(left[made], minlength=n))[:-1]
        rows = np.where(at_right, moved[left + 1], moved[left])
        places = moved[left[made]] + 1 + _rank(left[made])
        rows[fresh] = places[np.cumsum(first) - 1]
        if len(made):
            self.t = _spread(self.t, moved, t[made], places)
            self.segment = _spread(self.segment, moved, self.segment[left[made]], places)
            self.origin = _spread(self.origin, moved, np.full(len(made), self._kinks), places)
            self._places = [moved[place] for place in self._places]
            self._places.append(np.arange(n + len(made)))
            self.version += 1
        return rows


def interpolate(rows: Tensor, places: Array, t: Array) -> Tensor:
    """Interpolate rows known at some of the inputs, in pairs of neighbours, to all of them.

    Parameters
    ----------
    rows : Tensor of shape (m, *shape)
    places : int array of shape (m,)
        Which of the inputs they belong to, ascending.
    t : array of shape (n,)
    """
    known = np.zeros(len(t), bool)
    known[places] = True
    fresh = np.flatnonzero(~known)
    out = rows.new_empty((len(t), *rows.shape[1:]))
    out[_index(places, rows)] = rows
    before = np.cumsum(known)[fresh] - 1
    a, b = t[places[before]], t[places[before + 1]]
    share = torch.from_numpy((t[fresh] - a) / (b - a)).to(rows.device)
    share = share.reshape(-1, *[1] * (rows.ndim - 1))
    low, high = rows[_index(before, rows)], rows[_index(before + 1, rows)]
    out[_index(fresh, rows)] = (1 - share) * low + share * high
    return out


def _array(rows: Tensor) -> Array:
    return np.ascontiguousarray(rows.detach().cpu().numpy())


def _index(places: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(places).to(like.device)


def _rank(groups: Array) -> Array:
    """Return how many of the entries before belong to the same group; equal ones stand together."""
    if not len(groups):
        return groups
    starts = np.flatnonzero(np.r_[True, np.diff(groups) != 0])
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))


def _spread(old: Array, moved: Array, new: Array, places: Array) -> Array:
    merged = np.empty(len(old) + len(new), old.dtype)
    merged[moved], merged[places] = old, new
    return merged


@njit(cache=True, nogil=True)
def crossings(heights: Array, segment: Array) -> tuple[Array, Array, Array]:
    """Return where heights, (n, units), change sign between neighbours on a segment.

    Returns
    -------
    left, unit : int array
    share : float array
        How far from ``left`` to its right neighbour the height is zero, in (0, 1).
    """
    n, units = heights.shape
    count = 0
    for i in range(n - 1):
        if segment[i] == segment[i + 1]:
            for u in range(units):
                count += (heights[i, u] > 0.0) != (heights[i + 1, u] > 0.0)
    left, unit = np.empty(count, np.int64), np.empty(count, np.int64)
    share = np.empty(count, np.float64)
    found = 0
    for i in range(n - 1):
        if segment[i] == segment[i + 1]:
            for u in range(units):
                a, b = heights[i, u], heights[i + 1, u]
                if (a > 0.0 and b < 0.0) or (a < 0.0 and b > 0.0):
                    left[found], unit[found], share[found] = i, u, a / (a - b)
                    found += 1
    return left[:found], unit[:found], share[:found]


@njit(cache=True, nogil=True)
def envelope_corners(candidates: Array, segment: Array) -> tuple[Array, Array, Array, Array]:
    """Return where the largest of some candidates, (n, units, k), changes between neighbours.

    The same as of :func:`crossings`, and which candidate is the largest from there on.
    """
    n, units, k = candidates.shape
    room = 16
    left, unit = np.empty(room, np.int64), np.empty(room, np.int64)
    share, winner = np.empty(room, np.float64), np.empty(room, np.int64)
    found = 0
    for i in range(n - 1):
        if segment[i] != segment[i + 1]:
            continue
        for u in range(units):
            a, b = candidates[i, u], candidates[i + 1, u]
            # The largest just after the left end: of equal ones that which ends highest.
            now = 0
            for j in range(1, k):
                if a[j] > a[now] or (a[j] == a[now] and b[j] > b[now]):
                    now = j
            while True:
                # The first to overtake it.
                best, then, rise = 1.0, -1, 0.0
                for j in range(k):
                    if b[j] > b[now]:
                        gap, gain = a[now] - a[j], b[j] - b[now]
                        s = gap / (gap + gain)
                        if s < best or (s == best and gain > rise):
                            best, then, rise = s, j, gain
                if then < 0:
                    break
                if found == room:
                    room *= 2
                    left, unit = _longer(left, room), _longer(unit, room)
                    share, winner = _longer(share, room), _longer(winner, room)
                left[found], unit[found], share[found], winner[found] = i, u, best, then
                found += 1
                now = then
    return left[:found], unit[:found], share[:found], winner[:found]


@njit(cache=True, nogil=True)
def _longer(values: Array, room: int) -> Array:
    out = np.empty(room, values.dtype)
    out[: len(values)] = values
    return out
