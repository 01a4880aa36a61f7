"""The mesh of the segments: inputs along straight lines, cut where a network bends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geomprobe.storage import Array
from geomprobe.tropical.branches import hinges
from geomprobe.tropical.limits import TooManyInputs
from geomprobe.tropical.slopes import (
    bent,
    crossings,
    envelope_corners,
    farthest,
    integrated,
    largest,
    places,
)
from geomprobe.tropical.tape import Kink

#: Breakpoints closer together than this share of a segment are one.
TOLERANCE = 1e-12


class Polyline:
    """Inputs on segments, in order; between neighbours on a segment everything is affine.

    A quantity has a row for each input: where a segment starts, its value there; elsewhere, its
    slope in t on the piece that ends there. So affine operations see as many rows as there are
    inputs, and slopes keep their digits on pieces however short. Before all segments stands an
    input of zeros, which tells what constant an operation has added to every row.

    Parameters
    ----------
    segments : int
        How many.
    limit : int
        Most inputs to keep.
    low, high : float
        Which part of each segment, of 0 to 1.
    certify : bool
        Whether to look at every bend for what its slopes add up to.

    Attributes
    ----------
    segment : int array of shape (n,)
        On which segment each input lies; -1 for the zeros.
    t : float64 array of shape (n,)
        Where on it.
    origin : int array of shape (n,)
        The number of the kink that made it a breakpoint; -1 at the ends of segments.
    merged : int
        How often a unit bends where another does, or at the end of a piece, within the tolerance.
    deviation : float
        Largest distance, at the end and in the middle of any piece that a bend has made, of its
        output from what its slopes add up to, over its largest output.
    """

    def __init__(
        self,
        segments: int,
        limit: int,
        low: float = 0.0,
        high: float = 1.0,
        certify: bool = False,
    ) -> None:
        self.segment = np.append(-1, np.repeat(np.arange(segments), 2))
        self.t = np.append(low, np.tile([low, high], segments))
        self.origin = np.full(1 + 2 * segments, -1)
        self.version = 0
        self.merged, self.deviation = 0, 0.0
        self._limit, self._certify = limit, certify
        self._kinks = -1
        # By version, where its inputs are now.
        self._places = [np.arange(1 + 2 * segments)]

    def rows(self, starts: Tensor, ends: Tensor) -> Tensor:
        """Return the rows of the input, from what it is at t = 0 and 1, (segments, *shape)."""
        slopes = ends - starts
        known = torch.stack([starts + float(self.t[0]) * slopes, slopes], 1).flatten(0, 1)
        return torch.cat([torch.zeros_like(known[:1]), known])

    def values(self, rows: Tensor) -> Array:
        """Return values at all inputs from rows of the present version, (n, units)."""
        values: Array = integrated(_array(rows.flatten(1)), self.segment, self.t)
        return values

    def slopes(self, rows: Tensor) -> Array:
        """Return slopes from rows of the present version, (n, units); nothing at starts."""
        flat = _array(rows.flatten(1))
        slopes: Array = flat - flat[0]
        return slopes

    def lift(self, rows: Tensor, version: int) -> Tensor:
        """Return the rows of all inputs: a part of a piece has its slope."""
        return rows[torch.from_numpy(self._source(version)).to(rows.device)]

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Cut the segments where an operation bends, and apply it."""
        self._kinks += 1
        former = self.version
        if kink.bend.windows is None:
            given = _array(rows[0].flatten(1))
            thresholds, factors = map(_array, hinges(kink, rows[0]))
            values = self.values(rows[0])
            left, unit, level, share = crossings(values, self.segment, thresholds)
            at = self._insert(left, share, kink)
            order = np.argsort(at, kind="stable")
            crossed = at[order], unit[order], level[order]
            source = self._source(former)
            made = bent(given, source, self.segment, self.t, thresholds, factors, *crossed)
            first = np.flatnonzero(np.diff(self.segment)) + 1
            starts = rows[0][torch.from_numpy(source[first]).to(rows[0].device)]
            made[first] = kink.apply(starts).flatten(1).cpu().numpy()
        else:
            candidates = kink.bend.windows(*rows)
            given = _array(candidates)
            left, share = envelope_corners(
                self.values(candidates).reshape(given.shape), self.segment
            )
            self._insert(left, share, kink)
            made = kink.bend.sign * largest(given, self._source(former), self.segment, self.t)
        if self._certify:
            self._compare(kink, rows, self._source(former), made)
        return torch.from_numpy(made).to(rows[0].device).reshape(-1, *kink.shape)

    def _compare(self, kink: Kink, rows: Sequence[Tensor], source: Array, made: Array) -> None:
        """Apply an operation to what the slopes of its arguments add up to, and look at its own."""
        n = len(source)
        given = [
            torch.from_numpy(places(_array(part.flatten(1)), source, self.segment, self.t))
            .to(part.device)
            .reshape(-1, *part.shape[1:])
            for part in rows
        ]
        applied = _array((kink.bend.in_place or kink.apply)(*given).reshape(2 * n, -1))
        off, size = farthest(made, applied[:n], applied[n:], self.segment, self.t)
        if size:
            self.deviation = max(self.deviation, off / size)

    def _source(self, version: int) -> Array:
        """Return which row of a former version holds at each input: that of the next one."""
        return np.searchsorted(self._places[version], np.arange(len(self.t)))

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
        self.merged += len(left) - len(made)
        n = len(self.t)
        if n + len(made) > self._limit + 1:
            raise TooManyInputs(n + len(made) - 1, kink.name)
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


def _array(rows: Tensor) -> Array:
    return np.ascontiguousarray(rows.detach().cpu().numpy())


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
