"""What transformers of persistence diagrams share: what they take, and the order of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from geomprobe.estimators.tags import NoTableInput
from geomprobe.storage import Array
from geomprobe.topology.diagrams import Diagrams, from_giotto


class DiagramFeatures(NoTableInput, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn each homology dimension of a diagram into features, and put them side by side.

    A subclass says what it learns from the diagrams of one dimension, what the features of a
    diagram are, and how they are called.
    """

    n_dimensions_: int

    def fit(self, X: Any, y: Any = None) -> Any:
        """Learn how many homology dimensions there are, and their scales.

        Parameters
        ----------
        X : list of Diagrams, or array of shape (n_diagrams, n_points, 3) as giotto-tda's
        y : ignored
        """
        self._check()
        diagrams = as_diagrams(X)
        self.n_dimensions_ = max(len(one) for one in diagrams)
        for dim in range(self.n_dimensions_):
            self._learn([one[dim] for one in diagrams if dim < len(one)], dim)
        return self

    def transform(self, X: Any) -> Array:
        """Return the features of each diagram, of shape (n_diagrams, n_features).

        A dimension that a diagram lacks is taken as one without bars.
        """
        check_is_fitted(self)
        diagrams = as_diagrams(X)
        if (most := max(len(one) for one in diagrams)) > self.n_dimensions_:
            raise ValueError(
                f"fitted to diagrams of {self.n_dimensions_} homology dimensions, got {most}"
            )
        none = np.empty((0, 2))
        return np.stack(
            [
                np.concatenate(
                    [
                        np.ravel(self._features(one[dim] if dim < len(one) else none, dim))
                        for dim in range(self.n_dimensions_)
                    ]
                )
                for one in diagrams
            ]
        )

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return one name a feature, which begins with ``h`` and the homology dimension."""
        check_is_fitted(self)
        names = [f"h{dim}_{name}" for dim in range(self.n_dimensions_) for name in self._names(dim)]
        return np.array(names, dtype=object)

    def _check(self) -> None:
        """Raise ValueError for a parameter out of its range."""

    def _learn(self, dgms: Sequence[Array], dim: int) -> None:
        """Learn from the diagrams of one dimension."""

    def _features(self, dgm: Array, dim: int) -> Any:
        """Return the features of one diagram of one dimension."""
        raise NotImplementedError

    def _names(self, dim: int) -> list[str]:
        """Return the names of the features of one dimension."""
        raise NotImplementedError


def as_diagrams(X: Any) -> list[Diagrams]:
    """Return diagrams as a list, from such a list or from giotto-tda's array."""
    diagrams = from_giotto(X) if isinstance(X, np.ndarray) else list(X)
    if not diagrams or not all(isinstance(one, Diagrams) for one in diagrams):
        raise ValueError(
            "X must be a list of Diagrams, such as RipsPersistence gives, or giotto-tda's array of "
            "shape (n_diagrams, n_points, 3)"
        )
    return diagrams


def require_positive(**values: float) -> None:
    """Raise ValueError for the first of the values that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}")
