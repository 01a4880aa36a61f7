"""RipsPersistence: from point clouds to persistence diagrams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import BaseEstimator, TransformerMixin

from geomprobe.clouds import PointCloud
from geomprobe.estimators.tags import NoTableInput
from geomprobe.topology.diagrams import Diagrams
from geomprobe.topology.rips import rips_persistence


class RipsPersistence(NoTableInput, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transform point clouds into their Vietoris-Rips persistence diagrams.

    Parameters
    ----------
    max_dim, metric, threshold, coeff, engine
        See :func:`~geomprobe.topology.rips_persistence`.
    time_limit, memory_limit
        Of each cloud.
    n_jobs : int, optional
        Clouds computed at once; ``None`` means 1 unless in a joblib context. Where there are
        several, engines use one thread each.

    Notes
    -----
    A sample is a cloud: ``X`` is a list of arrays of shape (n_i, d), which may differ in n_i, of
    :class:`~geomprobe.PointCloud`, or an array of shape (n_clouds, n, d). The result is a list of
    :class:`~geomprobe.topology.Diagrams`. Nothing is learned in ``fit``. A progress bar appears
    where it takes over two seconds.
    """

    def __init__(
        self,
        max_dim: int = 1,
        *,
        metric: str = "euclidean",
        threshold: float | None = None,
        coeff: int = 2,
        engine: str = "auto",
        time_limit: float | None = None,
        memory_limit: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.max_dim = max_dim
        self.metric = metric
        self.threshold = threshold
        self.coeff = coeff
        self.engine = engine
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> RipsPersistence:
        """Check that X is a collection of clouds."""
        _clouds(X)
        return self

    def transform(self, X: Any) -> list[Diagrams]:
        """Return the diagrams of each cloud, in order."""
        from tqdm.auto import tqdm

        clouds = _clouds(X)
        diagrams: list[Diagrams] = Parallel(n_jobs=self.n_jobs)(
            delayed(rips_persistence)(
                cloud,
                self.max_dim,
                metric=self.metric,
                threshold=self.threshold,
                coeff=self.coeff,
                engine=self.engine,
                time_limit=self.time_limit,
                memory_limit=self.memory_limit,
                n_jobs=1 if effective_n_jobs(self.n_jobs) > 1 else None,
            )
            for cloud in tqdm(clouds, desc="rips", unit="cloud", delay=2, leave=False)
        )
        return diagrams

    def set_output(self, *, transform: str | None = None) -> RipsPersistence:
        """Change nothing: diagrams are no table, and the steps after this one may still be set."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _clouds(X: Any) -> list[Any]:
    if isinstance(X, str | PointCloud | Mapping) or not isinstance(X, Iterable):
        raise TypeError(
            f"X must be a list of point clouds, got {type(X).__name__}; for one cloud pass "
            "[cloud], for a CloudSet list(clouds.values())"
        )
    clouds = [one.points if isinstance(one, PointCloud) else np.asarray(one) for one in X]
    if not clouds:
        raise ValueError("X holds no clouds")
    for index, cloud in enumerate(clouds):
        if cloud.ndim != 2:
            raise ValueError(
                f"X must be a list of point clouds of shape (n, d), and entry {index} has shape "
                f"{cloud.shape}; for one cloud pass [cloud]"
            )
    return clouds
