"""Functions of a diagram at fixed scales: Betti curves, landscapes and silhouettes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from geomprobe.estimators.diagrams import ROUNDING, DiagramFeatures, require_count, shown
from geomprobe.storage import Array
from geomprobe.topology.landscapes import landscape, silhouette
from geomprobe.topology.summaries import betti_curve


class _OnGrid(DiagramFeatures):
    """Scales evenly spaced from the first birth to the last death of the diagrams in ``fit``."""

    n_bins: int
    grid_: list[Array]

    def _check(self) -> None:
        require_count(n_bins=self.n_bins)

    def _learn(self, bars: Sequence[Array]) -> None:
        self.grid_ = [np.linspace(*_span(one), self.n_bins) for one in bars]


def _span(bars: Array) -> tuple[float, float]:
    ends = bars[np.isfinite(bars)]
    low, high = (ends.min(), ends.max()) if len(ends) else (0.0, 0.0)
    # Where there is nothing to learn from, but for rounding: any scales.
    return low, high if high - low > ROUNDING * abs(high) else low + 1.0


class BettiCurve(_OnGrid):
    """Transform persistence diagrams into the number of bars alive at each scale.

    Parameters
    ----------
    n_bins : int
        Number of scales.

    Attributes
    ----------
    n_dimensions_ : int
        Number of homology dimensions, those of the diagrams in ``fit``.
    grid_ : list of arrays of shape (n_bins,)
        The scales of each dimension, from the first birth to the last death in ``fit``.

    Notes
    -----
    ``X`` is a list of :class:`~geomprobe.topology.Diagrams`, or giotto-tda's array of shape
    (n_diagrams, n_points, 3). The result has shape (n_diagrams, ``n_dimensions_`` * n_bins), its
    names are as ``h1_betti_at_0.25``. Bars that never die are counted from their birth on.
    """

    def __init__(self, n_bins: int = 100) -> None:
        self.n_bins = n_bins

    def _features(self, dgm: Array, dim: int) -> Array:
        return betti_curve(dgm, self.grid_[dim])

    def _names(self, dim: int) -> list[str]:
        return [f"betti_at_{scale}" for scale in shown(self.grid_[dim])]


class PersistenceLandscape(_OnGrid):
    """Transform persistence diagrams into the largest layers of their landscapes.

    Parameters
    ----------
    layers : int
        How many layers, from the largest.
    n_bins : int
        Number of scales.

    Attributes
    ----------
    n_dimensions_ : int
        Number of homology dimensions, those of the diagrams in ``fit``.
    grid_ : list of arrays of shape (n_bins,)
        The scales of each dimension, from the first birth to the last death in ``fit``.

    Notes
    -----
    ``X`` is a list of :class:`~geomprobe.topology.Diagrams`, or giotto-tda's array of shape
    (n_diagrams, n_points, 3). The result has shape (n_diagrams, ``n_dimensions_`` * layers *
    n_bins), its names are as ``h1_landscape_1_at_0.25``. Bars that never die are left out. See
    :func:`~geomprobe.topology.landscape`.
    """

    def __init__(self, layers: int = 1, n_bins: int = 100) -> None:
        self.layers = layers
        self.n_bins = n_bins

    def _check(self) -> None:
        super()._check()
        require_count(layers=self.layers)

    def _features(self, dgm: Array, dim: int) -> Array:
        return landscape(dgm, self.grid_[dim], self.layers)

    def _names(self, dim: int) -> list[str]:
        scales = shown(self.grid_[dim])
        return [f"landscape_{k + 1}_at_{scale}" for k in range(self.layers) for scale in scales]


class Silhouette(_OnGrid):
    """Transform persistence diagrams into their silhouettes, means of the tents of all bars.

    Parameters
    ----------
    power : float
        Bars weigh as their lifetimes to this power; not negative.
    n_bins : int
        Number of scales.

    Attributes
    ----------
    n_dimensions_ : int
        Number of homology dimensions, those of the diagrams in ``fit``.
    grid_ : list of arrays of shape (n_bins,)
        The scales of each dimension, from the first birth to the last death in ``fit``.

    Notes
    -----
    ``X`` is a list of :class:`~geomprobe.topology.Diagrams`, or giotto-tda's array of shape
    (n_diagrams, n_points, 3). The result has shape (n_diagrams, ``n_dimensions_`` * n_bins), its
    names are as ``h1_silhouette_at_0.25``. Bars that never die are left out. See
    :func:`~geomprobe.topology.silhouette`.
    """

    def __init__(self, power: float = 1.0, n_bins: int = 100) -> None:
        self.power = power
        self.n_bins = n_bins

    def _check(self) -> None:
        super()._check()
        if not 0 <= self.power < math.inf:
            raise ValueError(f"power must be 0 or more, got {self.power!r}")

    def _features(self, dgm: Array, dim: int) -> Array:
        return silhouette(dgm, self.grid_[dim], self.power)

    def _names(self, dim: int) -> list[str]:
        return [f"silhouette_at_{scale}" for scale in shown(self.grid_[dim])]
