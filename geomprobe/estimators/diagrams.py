"""What transformers of persistence diagrams share: what they take, and the order of features."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from geomprobe.estimators.tags import NoTableInput
from geomprobe.storage import Array
from geomprobe.topology.diagrams import Diagrams, from_giotto

#: Scales that differ by less, relatively, are the same.
ROUNDING = 1e-9

_NO_BARS = np.empty((0, 2))


class DiagramFeatures(NoTableInput, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn each homology dimension of a diagram into features, and put them side by side.

    A subclass says which parameters it takes, what it learns from the diagrams of each dimension,
    what the features of a diagram are, and how they are called.
    """

    n_dimensions_: int

    def fit(self, X: Any, y: Any = None) -> Any:
        """Learn how many homology dimensions there are, and their scales.

        Parameters
        ----------
        X : list of Diagrams, or array of shape (n_diagrams, n_points, 3) as giotto-tda's
        y : ignored

        Raises
        ------
        ValueError
            X is neither, or holds no diagram; a parameter is out of its range.
        """
        self._check()
        diagrams = as_diagrams(X)
        self.n_dimensions_ = max(len(one) for one in diagrams)
        self._learn(
            [
                np.concatenate([_bars(one, dim) for one in diagrams])
                for dim in range(self.n_dimensions_)
            ]
        )
        return self

    def transform(self, X: Any) -> Array:
        """Return the features of each diagram, of shape (n_diagrams, n_features).

        A dimension that a diagram lacks is taken as one without bars.

        Raises
        ------
        ValueError
            X is no list of diagrams and no such array, or has more dimensions than in ``fit``.
        """
        check_is_fitted(self)
        diagrams = as_diagrams(X)
        if (most := max(len(one) for one in diagrams)) > self.n_dimensions_:
            raise ValueError(
                f"fitted to diagrams of {self.n_dimensions_} homology dimensions, got {most}"
            )
        blocks = [
            np.stack([np.ravel(self._features(_bars(one, dim), dim)) for one in diagrams])
            for dim in range(self.n_dimensions_)
        ]
        return np.concatenate(blocks, axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return one name a feature, which begins with ``h`` and the homology dimension."""
        check_is_fitted(self)
        names = [f"h{dim}_{name}" for dim in range(self.n_dimensions_) for name in self._names(dim)]
        return np.array(names, dtype=object)

    def _check(self) -> None:
        """Raise ValueError for a parameter out of its range."""

    def _learn(self, bars: Sequence[Array]) -> None:
        """Learn from the bars of all diagrams together, one array a dimension."""

    def _features(self, dgm: Array, dim: int) -> Any:
        """Return the features of one diagram of one dimension."""
        raise NotImplementedError

    def _names(self, dim: int) -> list[str]:
        """Return the names of the features of one dimension."""
        raise NotImplementedError


def as_diagrams(X: Any) -> list[Diagrams]:
    """Return diagrams as a list, from such a list or from giotto-tda's array."""
    if isinstance(X, np.ndarray) and X.dtype != object:
        diagrams = from_giotto(X)
    else:
        diagrams = list(X) if isinstance(X, Iterable) else []
    if not diagrams or not all(isinstance(one, Diagrams) for one in diagrams):
        raise ValueError(
            "X must be a list of Diagrams, such as RipsPersistence gives, or giotto-tda's array of "
            f"shape (n_diagrams, n_points, 3), with one at least; got {type(X).__name__}"
        )
    return diagrams


def require_positive(**values: float) -> None:
    """Raise ValueError for the first of the values that is no finite number above 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive, got {value!r}")


def require_count(**values: int) -> None:
    """Raise ValueError for the first of the values that is no whole number above 0."""
    for name, value in values.items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number from 1, got {value!r}")


def shown(scales: Array) -> list[str]:
    """Return scales as text, with the fewest digits, three at least, that tell them apart."""
    for digits in range(3, 18):
        texts = [f"{scale:.{digits}g}" for scale in scales]
        if len(set(texts)) == len(texts):
            break
    return texts


def _bars(diagrams: Diagrams, dim: int) -> Array:
    return diagrams[dim] if dim < len(diagrams) else _NO_BARS
