"""What the meshes of cells share: vertices between vertices, and cuts in the order of the pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geomprobe.storage import Array
from geomprobe.tropical.signs import ZERO, extended, extent, roomy
from geomprobe.tropical.tape import Kink, above


class CellMesh(ABC):
    """Vertices of convex cells on which everything is affine; cells are cut where a model bends.

    Parameters
    ----------
    vertices : int
        Of the domain, before the first cut.

    Attributes
    ----------
    phantoms : bool
        Whether walls may stand where nothing changes: those of a maximum between two candidates
        that are both below a third.
    snapped : int
        How often a vertex lies on a further wall, or a wall passes the border, within rounding.
    """

    def __init__(self, vertices: int) -> None:
        self.version = 0
        self.phantoms = False
        self.snapped = 0
        self._counts = [vertices]
        self._first, self._second = np.empty(0, np.int64), np.empty(0, np.int64)
        self._share = np.empty(0)

    @property
    def vertices(self) -> int:
        """How many vertices there are."""
        return self._counts[-1]

    def notes(self) -> list[str]:
        """Return what a reader must know."""
        if not self.snapped:
            return []
        return [
            f"Not in general position: {self.snapped} times a vertex lies on a further wall, or a "
            "wall passes the border, within rounding; walls nearer to each other count as one."
        ]

    def lift(self, rows: Tensor, version: int) -> Tensor:
        """Interpolate rows of a former version at the vertices made since."""
        since = slice(self._counts[version] - self._counts[0], None)
        flat = np.ascontiguousarray(rows.flatten(1).cpu().numpy())
        lifted = extended(flat, self._first[since], self._second[since], self._share[since])
        return torch.from_numpy(lifted).to(rows.device).reshape(-1, *rows.shape[1:])

    def positions(self, corners: Array) -> Array:
        """Return where the vertices are, (vertices, d), from the corners of the domain."""
        return extended(np.ascontiguousarray(corners), self._first, self._second, self._share)

    def bend(self, kink: Kink, rows: Sequence[Tensor]) -> Tensor:
        """Cut the cells where an operation bends, and apply it."""
        if kink.bend.windows is None:
            (entries,) = rows
            for threshold in kink.bend.thresholds:
                if isinstance(threshold, float) and threshold == 0:
                    entries = self._cut(entries, kink)
                    continue
                former = self.version
                scale = float(entries.abs().max())
                heights = self._cut(above(entries, threshold), kink, scale)
                # Not lowered and raised again: by a large threshold nothing would be left.
                at = heights + threshold
                on = (heights == 0) & at.isfinite()
                entries = torch.where(on, at, self.lift(entries, former))
            # What was cut is nobody else's.
            return self._applied(kink, entries, entries is not rows[0])
        candidates = kink.bend.windows(*rows)
        best = candidates[..., 0]
        for k in range(1, candidates.shape[-1]):
            self.phantoms |= k > 1
            former = self.version
            gain = self._cut(candidates[..., k] - best, kink)
            if self.version != former:
                candidates, best = self.lift(candidates, former), self.lift(best, former)
            best = best + self._above_zero(gain)
        return kink.bend.sign * best.reshape(-1, *kink.shape)

    def _applied(self, kink: Kink, entries: Tensor, own: bool) -> Tensor:
        """Apply an operation on each entry, in place where they are the mesh's own."""
        in_place = kink.bend.in_place if own else None
        return in_place(entries) if in_place else kink.apply(entries)

    def _above_zero(self, rows: Tensor) -> Tensor:
        """Return what is above zero, and zero."""
        return rows.clamp_min(0)

    def _cut(self, heights: Tensor, kink: Kink, scale: float | None = None) -> Tensor:
        """Cut along the zeros of heights, (n, *shape); return them at all vertices then.

        What they are heights of has that ``scale``; by default that of the largest.
        """
        flat = heights.flatten(1).cpu().contiguous().numpy()
        low, high = extent(flat)
        less, reach = np.minimum(-low, high), np.maximum(-low, high)
        zero = ZERO * reach
        self.snapped += int(((less > 0) & (less <= zero)).sum())
        zero[reach <= ZERO * (reach.max(initial=0.0) if scale is None else scale)] = np.inf
        mixed = np.flatnonzero((low < -zero) & (high > zero))
        if not len(mixed):
            return heights
        shape, former = heights.shape[1:], self.version
        if 2 * len(mixed) > len(zero):
            buffer, idle = roomy(flat), np.setdiff1d(np.arange(len(zero)), mixed)
            # Of those that cut nothing no rounding about zero may be taken for a sign.
            values = buffer[: len(flat), idle]
            buffer[: len(flat), idle] = np.where(np.abs(values) <= zero[idle], 0.0, values)
            zero[idle] = -1.0
            lifted = torch.from_numpy(self._split(buffer, len(flat), zero, kink))
        else:
            cut = self._split(roomy(flat[:, mixed]), len(flat), zero[mixed], kink)
            lifted = self.lift(torch.from_numpy(flat), former)
            lifted[:, mixed] = torch.from_numpy(cut)
        return lifted.to(heights.device).reshape(-1, *shape)

    def _grow(self, first: Array, second: Array, share: Array) -> None:
        """Take new vertices, each between two earlier ones."""
        if not len(first):
            return
        self._first = np.concatenate([self._first, first])
        self._second = np.concatenate([self._second, second])
        self._share = np.concatenate([self._share, share])
        self._counts.append(self.vertices + len(first))
        self.version += 1

    @abstractmethod
    def _split(self, heights: Array, known: int, zero: Array, kink: Kink) -> Array:
        """Cut along the zeros of the columns; return them at all vertices then.

        Parameters
        ----------
        heights : array of shape (room, units)
            At the first ``known`` rows; the others are room for more.
        known : int
        zero : array of shape (units,)
            What is no larger is zero.
        kink : Kink
        """
