"""The dimension of each cloud as features: of its neighbourhoods, or of its covariance."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from geomprobe.estimators.clouds import as_clouds, for_each_cloud
from geomprobe.estimators.diagrams import require_count
from geomprobe.estimators.tags import NoTableInput
from geomprobe.representation.gride import gride
from geomprobe.representation.local_pca import local_pca
from geomprobe.representation.nearest_neighbour_likelihood import levina_bickel
from geomprobe.representation.spectrum import alpha_req, participation_ratio, rank_me
from geomprobe.representation.two_nn import two_nn
from geomprobe.storage import Array

#: The least ``n_neighbors`` of each method.
_INTRINSIC = {"two_nn": 1, "gride": 2, "levina_bickel": 3, "local_pca": 3}
_LINEAR = {"participation_ratio": participation_ratio, "rank_me": rank_me, "alpha_req": alpha_req}

#: From a cloud to an array of shape (m, 2): numbers, and their standard errors.
Numbers = Callable[[Any], Array]


class CloudDimension(NoTableInput, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn each cloud into a few numbers. A subclass says which, and how they are called."""

    stderr: bool
    fill_value: float
    n_jobs: int | None

    def fit(self, X: Any, y: Any = None) -> Any:
        """Check the parameters, and that X is a collection of clouds.

        Raises
        ------
        TypeError, ValueError
            A parameter is out of its range, or X is no list of clouds.
        """
        self._numbers()
        as_clouds(X)
        return self

    def transform(self, X: Any) -> Array:
        """Return the numbers of each cloud, of shape (n_clouds, n_features).

        Raises
        ------
        TypeError, ValueError
            What ``fit`` refuses, or a cloud of too few points, by its place in X.
        """
        found = np.stack(for_each_cloud(self._numbers(), as_clouds(X), self.n_jobs, "dimension"))
        found[np.isnan(found[:, :, 0])] = self.fill_value, math.nan
        columns: Array = found.transpose(0, 2, 1)[:, : 1 + self.stderr]
        return columns.reshape(len(found), -1)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return one name a feature; that of a standard error ends so."""
        names = self._names()
        names += [f"{name}_stderr" for name in names] if self.stderr else []
        return np.array(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _numbers(self) -> Numbers:
        """Return the function that the parameters ask for; raise where they are out of range."""
        raise NotImplementedError

    def _names(self) -> list[str]:
        raise NotImplementedError


class IntrinsicDimension(CloudDimension):
    """Transform point clouds into their intrinsic dimensions, by distances to neighbours.

    Parameters
    ----------
    method : {"two_nn", "gride", "levina_bickel", "local_pca"}
        See the functions of these names in :mod:`geomprobe.representation`. Gride gives a feature a
        scale, the others one.
    n_neighbors : int
        Of each point, for Levina-Bickel and local PCA; for Gride the most, its scales being 2, 4,
        8, ... neighbours. TwoNN has two.
    stderr : bool
        Whether standard errors follow the dimensions as features.
    fill_value : float
        Dimension of a cloud that has none, as a lattice, or too few points for that scale of Gride.
    random_state : int
        Seed of the halves that the standard errors are taken from.
    n_jobs : int, optional
        Clouds computed at once; ``None`` means 1 unless in a joblib context.

    Notes
    -----
    A sample is a cloud: ``X`` is a list of arrays of shape (n_i, d_i), which may differ in both, of
    :class:`~geomprobe.PointCloud`, such as ``list(probe.clouds.values())``, or an array of shape
    (n_clouds, n, d). The result has shape (n_clouds, n_features). Nothing is learned in ``fit``.
    """

    def __init__(
        self,
        method: str = "two_nn",
        *,
        n_neighbors: int = 20,
        stderr: bool = False,
        fill_value: float = math.nan,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.method = method
        self.n_neighbors = n_neighbors
        self.stderr = stderr
        self.fill_value = fill_value
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _numbers(self) -> Numbers:
        _require_method(self.method, _INTRINSIC)
        require_count(n_neighbors=self.n_neighbors)
        if self.n_neighbors < (least := _INTRINSIC[self.method]):
            raise ValueError(
                f"n_neighbors must be at least {least} for {self.method!r}, got {self.n_neighbors}"
            )
        return partial(
            _intrinsic, method=self.method, k=int(self.n_neighbors), seed=self.random_state
        )

    def _names(self) -> list[str]:
        if self.method != "gride":
            return [self.method]
        return [f"gride_{2 * order}" for order in _orders(self.n_neighbors)]


class LinearDimension(CloudDimension):
    """Transform point clouds into dimensions of the linear kind, by the spectra of the clouds.

    Parameters
    ----------
    method : {"participation_ratio", "rank_me", "alpha_req"}
        See the functions of these names in :mod:`geomprobe.representation`.
    stderr, fill_value, random_state, n_jobs
        As for :class:`IntrinsicDimension`. Without a dimension is, for alpha-ReQ, a cloud of too
        short a spectrum.

    Notes
    -----
    ``X`` as for :class:`IntrinsicDimension`; the result has shape (n_clouds, 1), or 2 with standard
    errors. All three depend on the number of points: compare clouds of equal numbers.
    """

    def __init__(
        self,
        method: str = "participation_ratio",
        *,
        stderr: bool = False,
        fill_value: float = math.nan,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.method = method
        self.stderr = stderr
        self.fill_value = fill_value
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _numbers(self) -> Numbers:
        _require_method(self.method, _LINEAR)
        return partial(_linear, method=self.method, seed=self.random_state)

    def _names(self) -> list[str]:
        return [self.method]


def _intrinsic(cloud: Array, method: str, k: int, seed: int) -> Array:
    if method == "gride":
        scan, orders = gride(cloud, largest=k), _orders(k)
        numbers = np.full((len(orders), 2), math.nan)
        numbers[: len(scan.orders)] = np.stack([scan.dimensions, scan.stderrs], axis=1)
        return numbers
    if method == "two_nn":
        found = two_nn(cloud, seed=seed)
    else:
        found = (levina_bickel if method == "levina_bickel" else local_pca)(cloud, k, seed=seed)
    return np.array([[found.value, found.stderr]])


def _linear(cloud: Array, method: str, seed: int) -> Array:
    found = _LINEAR[method](cloud, seed=seed)
    return np.array([[found.value, found.stderr]])


def _orders(largest: int) -> list[int]:
    """Return the n1 of every scale of Gride where there are points enough."""
    return [2**power for power in range(int(largest).bit_length() - 1)]


def _require_method(method: str, known: Any) -> None:
    if method not in known:
        raise ValueError(f"method must be one of {tuple(known)}, got {method!r}")
