"""RipsPersistence: from point clouds to persistence diagrams."""

from __future__ import annotations

from functools import partial
from typing import Any

from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from sklearn.base import BaseEstimator, TransformerMixin

from geomprobe.estimators.clouds import as_clouds, for_each_cloud
from geomprobe.estimators.tags import NoTableInput
from geomprobe.topology.diagrams import Diagrams
from geomprobe.topology.rips import require_parameters, rips_persistence


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
        several, or this runs in a joblib worker, engines use one thread each, otherwise all cores.

    Notes
    -----
    A sample is a cloud: ``X`` is a list of arrays of shape (n_i, d), which may differ in n_i, of
    :class:`~geomprobe.PointCloud`, or an array of shape (n_clouds, n, d); with
    ``metric="precomputed"``, of distance matrices, which may be sparse. The result is a list of
    :class:`~geomprobe.topology.Diagrams`. Nothing is learned in ``fit``. A progress bar appears
    where it takes over two seconds. An error names the cloud. After Ctrl-C the
    :class:`~geomprobe.exceptions.Interrupted`, which is a ``KeyboardInterrupt``, has the diagrams
    of the clouds that were done as ``done``.

    scikit-learn's ``check_estimator`` makes up tables, and so leaves out nearly all of its checks
    for this transformer and for those of diagrams.
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
        """Check the parameters, and that X is a collection of clouds."""
        require_parameters(self.max_dim, self.metric, self.threshold, self.coeff, self.engine)
        as_clouds(X)
        return self

    def transform(self, X: Any) -> list[Diagrams]:
        """Return the diagrams of each cloud, in order."""
        clouds = as_clouds(X)
        backend, _ = get_active_backend()
        crowded = backend.nesting_level or min(effective_n_jobs(self.n_jobs), len(clouds)) > 1
        persistence = partial(
            rips_persistence,
            max_dim=self.max_dim,
            metric=self.metric,
            threshold=self.threshold,
            coeff=self.coeff,
            engine=self.engine,
            time_limit=self.time_limit,
            memory_limit=self.memory_limit,
            n_jobs=1 if crowded else None,
        )
        return for_each_cloud(persistence, clouds, self.n_jobs, "rips")

    def set_output(self, *, transform: str | None = None) -> RipsPersistence:
        """Change nothing: diagrams are no table, and the steps after this one may still be set."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True
