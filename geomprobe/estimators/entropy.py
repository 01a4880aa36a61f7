"""One number a homology dimension: the entropy of a diagram, or its total persistence."""

from __future__ import annotations

import math

from geomprobe.estimators.diagrams import DiagramFeatures, require_positive
from geomprobe.storage import Array
from geomprobe.topology.summaries import persistence_entropy, total_persistence


class PersistenceEntropy(DiagramFeatures):
    """Transform persistence diagrams into their entropies, in bits.

    Parameters
    ----------
    normalize : bool
        See :func:`~geomprobe.topology.persistence_entropy`.
    fill_value : float
        Entropy of a diagram that has none: no bar in it dies.

    Attributes
    ----------
    n_dimensions_ : int
        Number of homology dimensions, those of the diagrams in ``fit``.

    Notes
    -----
    ``X`` is a list of :class:`~geomprobe.topology.Diagrams`, or giotto-tda's array of shape
    (n_diagrams, n_points, 3). The result has shape (n_diagrams, ``n_dimensions_``).
    """

    def __init__(self, *, normalize: bool = False, fill_value: float = 0.0) -> None:
        self.normalize = normalize
        self.fill_value = fill_value

    def _features(self, dgm: Array, dim: int) -> float:
        entropy = persistence_entropy(dgm, self.normalize)
        return self.fill_value if math.isnan(entropy) else entropy

    def _names(self, dim: int) -> list[str]:
        return ["entropy"]


class TotalPersistence(DiagramFeatures):
    """Transform persistence diagrams into the sums of their lifetimes, each to a power.

    Parameters
    ----------
    alpha : float
        The power; positive.

    Attributes
    ----------
    n_dimensions_ : int
        Number of homology dimensions, those of the diagrams in ``fit``.

    Notes
    -----
    ``X`` is a list of :class:`~geomprobe.topology.Diagrams`, or giotto-tda's array of shape
    (n_diagrams, n_points, 3). The result has shape (n_diagrams, ``n_dimensions_``).
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def _check(self) -> None:
        require_positive(alpha=self.alpha)

    def _features(self, dgm: Array, dim: int) -> float:
        return total_persistence(dgm, self.alpha)

    def _names(self, dim: int) -> list[str]:
        return ["total_persistence"]
