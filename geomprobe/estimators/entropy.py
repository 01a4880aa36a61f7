"""PersistenceEntropy: from persistence diagrams to one feature a homology dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from geomprobe.estimators.tags import NoTableInput
from geomprobe.storage import Array
from geomprobe.topology.diagrams import Diagrams, from_giotto
from geomprobe.topology.summaries import persistence_entropy


class PersistenceEntropy(NoTableInput, TransformerMixin, BaseEstimator):  # type: ignore[misc]
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

    def fit(self, X: Any, y: Any = None) -> PersistenceEntropy:
        """Learn how many homology dimensions there are."""
        self.n_dimensions_ = max(len(one) for one in _diagrams(X))
        return self

    def transform(self, X: Any) -> Array:
        """Return the entropy of each diagram in each dimension, of shape (n, ``n_dimensions_``)."""
        check_is_fitted(self)
        diagrams = _diagrams(X)
        if (most := max(len(one) for one in diagrams)) > self.n_dimensions_:
            raise ValueError(
                f"fitted to diagrams of {self.n_dimensions_} homology dimensions, got {most}"
            )
        entropies = np.full((len(diagrams), self.n_dimensions_), np.nan)
        for row, one in zip(entropies, diagrams, strict=True):
            row[: len(one)] = [persistence_entropy(dgm, self.normalize) for dgm in one]
        return np.where(np.isnan(entropies), self.fill_value, entropies)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return ``h0_entropy``, ``h1_entropy``, ..."""
        check_is_fitted(self)
        return np.array([f"h{dim}_entropy" for dim in range(self.n_dimensions_)], dtype=object)


def _diagrams(X: Any) -> list[Diagrams]:
    diagrams = from_giotto(X) if isinstance(X, np.ndarray) else list(X)
    if not diagrams or not all(isinstance(one, Diagrams) for one in diagrams):
        raise ValueError(
            "X must be a list of Diagrams, such as RipsPersistence gives, or giotto-tda's array of "
            "shape (n_diagrams, n_points, 3)"
        )
    return diagrams
