"""PersistenceImage: from persistence diagrams to pixels over birth and lifetime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geomprobe.estimators.diagrams import (
    ROUNDING,
    DiagramFeatures,
    require_count,
    require_positive,
    shown,
)
from geomprobe.storage import Array
from geomprobe.topology.landscapes import persistence_image

_SHARE = 0.1


class PersistenceImage(DiagramFeatures):
    """Transform persistence diagrams into images: Gaussians about (birth, lifetime), weighted.

    Parameters
    ----------
    n_bins : int
        Pixels along each axis.
    sigma : float, optional
        Standard deviation of the Gaussians; by default, in each dimension, a tenth of the longest
        lifetime in ``fit``.
    power : float
        Bars weigh as their lifetimes to this power; positive.

    Attributes
    ----------
    n_dimensions_ : int
        Number of homology dimensions, those of the diagrams in ``fit``.
    births_, lifetimes_ : lists of arrays of shape (n_bins + 1,)
        Edges of the pixels in each dimension, over the bars in ``fit``.
    sigma_ : list of float
        Standard deviation in each dimension.

    Notes
    -----
    ``X`` is a list of :class:`~geomprobe.topology.Diagrams`, or giotto-tda's array of shape
    (n_diagrams, n_points, 3). The result has shape (n_diagrams, ``n_dimensions_`` * n_bins^2), the
    pixels in the order (birth, lifetime), their names as ``h1_image_at_0.25_0.1``, where the centre
    is. Bars that never die are left out. See
    :func:`~geomprobe.topology.persistence_image`.
    """

    def __init__(self, n_bins: int = 20, *, sigma: float | None = None, power: float = 1.0) -> None:
        self.n_bins = n_bins
        self.sigma = sigma
        self.power = power

    def _check(self) -> None:
        require_count(n_bins=self.n_bins)
        require_positive(power=self.power)
        if self.sigma is not None:
            require_positive(sigma=self.sigma)

    def _learn(self, bars: Sequence[Array]) -> None:
        spans = [_span(one[np.isfinite(one[:, 1])]) for one in bars]
        self.births_ = [np.linspace(low, high, self.n_bins + 1) for low, high, _ in spans]
        self.lifetimes_ = [np.linspace(0, longest, self.n_bins + 1) for _, _, longest in spans]
        self.sigma_ = [
            _SHARE * longest if self.sigma is None else self.sigma for _, _, longest in spans
        ]

    def _features(self, dgm: Array, dim: int) -> Array:
        return persistence_image(
            dgm, self.births_[dim], self.lifetimes_[dim], sigma=self.sigma_[dim], power=self.power
        )

    def _names(self, dim: int) -> list[str]:
        births, lifetimes = (
            shown((edges[1:] + edges[:-1]) / 2)
            for edges in (self.births_[dim], self.lifetimes_[dim])
        )
        return [f"image_at_{birth}_{lifetime}" for birth in births for lifetime in lifetimes]


def _span(bars: Array) -> tuple[float, float, float]:
    """Return the first and the last birth, apart from each other, and the longest lifetime."""
    births = bars[:, 0]
    longest = float((bars[:, 1] - births).max(initial=0.0)) or 1.0
    low, high = (births.min(), births.max()) if len(births) else (0.0, 0.0)
    # All born at once, as in H0 and but for rounding: the pixels are as wide as high.
    if high - low <= ROUNDING * longest:
        low, high = low - longest / 2, high + longest / 2
    return low, high, longest
