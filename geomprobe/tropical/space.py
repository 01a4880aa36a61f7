"""The mesh of a whole space: a simplex so wide that nothing bends beyond it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geomprobe.storage import Array
from geomprobe.tropical.branches import FAR, hinges
from geomprobe.tropical.far import Heights, above_zero, last_crossing, lengthened
from geomprobe.tropical.signs import ZERO, extent, roomy
from geomprobe.tropical.skeleton import Skeleton
from geomprobe.tropical.tape import Kink
from geomprobe.tropical.unbounded import NO_SLOPE


class Space(Skeleton):
    """A simplex about a ball, cut into convex cells; its border stands for what is infinitely far.

    A vertex on the border is kept as a direction, times the width, plus an offset. Of two such
    vertices one near the origin is made, whose digits the width has not taken. So quantities have
    two rows for each vertex, an offset and a direction (of one that is not on the border, nothing),
    and before all others one at an input of zeros, which tells what constant an operation has added
    to every row.

    Parameters
    ----------
    dimension : int
        At least 2.
    limit : int
        Most vertices to keep.
    width : float
        Radius of the ball.

    Attributes
    ----------
    far : bool array of shape (vertices,)
        Whether a vertex is on the border.
    """

    def __init__(self, dimension: int, limit: int, width: float) -> None:
        d = dimension
        one, other = np.triu_indices(d + 1, 1)
        facets = np.arange(d + 1)
        within = [facets[(facets != i) & (facets != j)] for i, j in zip(one, other, strict=True)]
        # From each corner leads an edge off every facet, but the one across.
        ends, left = np.stack([one, other], 1), 2 * np.stack([other, one], 1) + 1
        self._begin(d, limit, d + 1, ends, left, np.array(within))
        self.width = width
        self.far = np.ones(d + 1, bool)
        self._sizes = np.ones(d + 1)
        self._steps: list[tuple[Array, ...]] = []
        self._reach = 0.0

    def narrow(self, places: Tensor) -> None:
        """Take the border in to twice where the last crossing was, by the rows of coordinates."""
        offsets = places[1::2].numpy()
        inner = float(np.linalg.norm(offsets[~self.far], axis=1).max(initial=0.0))
        self.width = min(self.width, 2 * max(self._reach, inner) or self.width)

    def rays(self, places: Tensor) -> Array:
        """Return how the vertices on the border move, as it does by its own width, (far, d)."""
        directions: Array = places[2::2].numpy()[self.far]
        return self.width * directions

    def coordinates(self) -> Array:
        """Return the rows of the coordinates of the corners."""
        d = self.dimension
        # Turned, so that no plain weights run along the facets.
        turn = np.linalg.qr(np.random.default_rng(2).normal(size=(d, d)))[0]
        centred = np.eye(d + 1) - 1 / (d + 1)
        corners = np.linalg.svd(centred)[0][:, :d] @ turn
        rows = np.zeros((1 + 2 * (d + 1), d))
        rows[2::2] = corners * d / np.linalg.norm(corners, axis=1, keepdims=True)
        return rows

    def values(self, rows: Tensor) -> Array:
        """Return values at all vertices, (vertices, units), from rows of the present version."""
        offsets, directions = self._parts(rows.flatten(1))
        values: Array = (offsets + self.width * directions).cpu().numpy()
        return values

    def lift(self, rows: Tensor, version: int) -> Tensor:
        """Return rows of a former version with those of the vertices made since."""
        flat = np.ascontiguousarray(rows.flatten(1).cpu().numpy())
        for step in self._steps[version:]:
            flat = lengthened(flat, *step)
        return torch.from_numpy(flat).to(rows.device).reshape(-1, *rows.shape[1:])

    def _parts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the offsets and the directions of the vertices from the rows of a quantity."""
        directions = rows[2::2] - rows[:1]
        directions[torch.from_numpy(~self.far)] = 0.0
        return rows[1::2], directions

    def _applied(self, kink: Kink, entries: Tensor, own: bool) -> Tensor:
        if kink.operation == "relu":
            return self._above_zero(entries)
        offsets, directions = self._parts(entries)
        heights = offsets + self.width * directions
        values = kink.apply(heights)
        thresholds, slopes = hinges(kink, entries)
        branch = (heights.flatten(1)[:, None] > thresholds).sum(1)
        slope = slopes.gather(0, branch).reshape(heights.shape)
        # What an operation adds to the slope, from where its branch is nearest to zero: the heights
        # have lost their last digits.
        border = torch.full_like(thresholds[:1], FAR)
        bounds = torch.cat([-border, thresholds, border])
        low, high = bounds.gather(0, branch), bounds.gather(0, branch + 1)
        near = low.clamp(min=0).minimum(high).reshape(heights.shape)
        far = kink.function(near) + slope * (offsets - near)
        rows = torch.zeros_like(entries)
        rows[1::2] = torch.where(directions == 0, values, far)
        rows[2::2] = slope * directions
        return rows

    def _above_zero(self, rows: Tensor) -> Tensor:
        flat = np.ascontiguousarray(rows.flatten(1).cpu().numpy())
        made = torch.from_numpy(above_zero(flat, self.far, self.width))
        return made.to(rows.device).reshape(rows.shape)

    def _cut(self, heights: Tensor, kink: Kink, scale: float | None = None) -> Tensor:
        flat = np.ascontiguousarray(heights.flatten(1).cpu().numpy())
        offsets, slopes = flat[1::2], flat[2::2] - flat[0]
        reach = np.abs(offsets / self._sizes[:, None]).max(axis=0, initial=0.0)
        reach = np.maximum(reach, np.abs(slopes).max(axis=0, initial=0.0))
        zero = ZERO * reach
        zero[reach <= ZERO * (reach.max(initial=0.0) if scale is None else scale)] = np.inf
        slopes[np.abs(slopes) <= zero] = 0.0
        values = offsets + self.width * slopes
        low, high = extent(values / np.where(slopes != 0, self.width, self._sizes[:, None]))
        less = np.minimum(-low, high)
        self.snapped += int(((less > 0) & (less <= zero)).sum())
        mixed = np.flatnonzero((low < -zero) & (high > zero))
        if not len(mixed):
            return heights
        former = self.version
        parts = *(part[:, mixed] for part in (values, slopes, offsets)), self._sizes, self.far
        known = Heights(*map(roomy, parts))
        made = self._subdivided(known, self.width, len(values), zero[mixed], kink)
        self._sizes, self.far = made.sizes, made.far
        self._reach = max(self._reach, last_crossing(made.offsets, made.slopes, made.far, NO_SLOPE))
        lifted = self.lift(torch.from_numpy(flat), former).numpy()
        lifted[1::2, mixed], lifted[2::2, mixed] = made.offsets, made.slopes + flat[0, mixed]
        return torch.from_numpy(lifted).to(heights.device).reshape(-1, *heights.shape[1:])

    def _take(self, first: Array, second: Array, places: Array, far: Array) -> None:
        if len(first):
            self._steps.append((first.copy(), second.copy(), places.copy(), far.copy()))
            self.version += 1
