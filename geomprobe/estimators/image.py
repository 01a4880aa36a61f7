"""PersistenceImage: from persistence diagrams to pixels over birth and lifetime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geomprobe.estimators.diagrams import DiagramFeatures, require_positive
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
    pixels in the order (birth, lifetime). Bars that never die are left out. See
    :func:`~geomprobe.topology.persistence_image`.
    """

    def __init__(self, n_bins: int = 20, *, sigma: float | None = None, power: float = 1.0) -> None:
        self.n_bins = n_bins
        self.sigma = sigma
        self.power = power

    def _check(self) -> None:
        require_positive(n_bins=self.n_bins, power=self.power)
        if self.sigma is not None:
            require_positive(sigma=self.sigma)
        self.births_: list[Array] = []
        self.lifetimes_: list[Array] = []
        self.sigma_: list[float] = []

    def _learn(self, dgms: Sequence[Array], dim: int) -> None:
        bars = np.concatenate(dgms)
        bars = bars[np.isfinite(bars[:, 1])]
        longest = float((bars[:, 1] - bars[:, 0]).max(initial=0.0)) or 1.0
        low, high = (bars[:, 0].min(), bars[:, 0].max()) if len(bars) else (0.0, 0.0)
        if low == high:  # As in H0, where all is born at 0: the pixels are as wide as high.
            low, high = low - longest / 2, high + longest / 2
        self.births_.append(np.linspace(low, high, self.n_bins + 1))
        self.lifetimes_.append(np.linspace(0, longest, self.n_bins + 1))
        self.sigma_.append(_SHARE * longest if self.sigma is None else self.sigma)

    def _features(self, dgm: Array, dim: int) -> Array:
        return persistence_image(
            dgm, self.births_[dim], self.lifetimes_[dim], sigma=self.sigma_[dim], power=self.power
        )

    def _names(self, dim: int) -> list[str]:
        pixels = range(self.n_bins)
        return [f"image_{i}_{j}" for i in pixels for j in pixels]
