"""What transformers of point clouds share: what they take, and how they go through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend
from scipy.sparse import issparse

from geomprobe.clouds import PointCloud
from geomprobe.exceptions import Interrupted, MemoryEstimateError
from geomprobe.progress import progress_bar

Result = TypeVar("Result")


def as_clouds(X: Any) -> list[Any]:
    """Return a collection of clouds as a list of arrays of shape (n_i, d), or sparse matrices.

    Raises
    ------
    TypeError, ValueError
        What is no such collection, a single cloud for instance; it holds none; an entry has
        another shape.
    """
    if isinstance(X, str | PointCloud | Mapping | Iterator) or not isinstance(X, Iterable):
        raise TypeError(
            f"X must be a list of point clouds, got {type(X).__name__}; for one cloud pass "
            "[cloud], for a CloudSet list(clouds.values())"
        )
    clouds = [_array(one) for one in X]
    if not clouds:
        raise ValueError("X holds no clouds")
    for index, cloud in enumerate(clouds):
        if cloud.ndim != 2:
            raise ValueError(
                f"X must be a list of point clouds of shape (n, d), and entry {index} has shape "
                f"{cloud.shape}; for one cloud pass [cloud]"
            )
    return clouds


def for_each_cloud(
    function: Callable[[Any], Result], clouds: list[Any], n_jobs: int | None, name: str
) -> list[Result]:
    """Return what a function makes of each cloud, with a progress bar of that name.

    An error names the cloud; after Ctrl-C :class:`~geomprobe.exceptions.Interrupted` has the
    results of the clouds that were done.
    """
    backend, _ = get_active_backend()
    # As they are done, where the backend can: multiprocessing and ray return all at the end.
    as_done = "generator" if backend.supports_return_generator else "list"
    found = Parallel(n_jobs=n_jobs, return_as=as_done)(
        delayed(_named)(function, index, cloud) for index, cloud in enumerate(clouds)
    )
    results: list[Result] = []
    try:
        for one in progress_bar(found, name, len(clouds), unit="cloud"):
            results.append(one)
    except KeyboardInterrupt:
        message = f"{len(results)} of {len(clouds)} clouds were done"
        raise Interrupted(message, results) from None
    return results


def _named(function: Callable[[Any], Result], index: int, cloud: Any) -> Result:
    try:
        return function(cloud)
    except (ValueError, TypeError, MemoryEstimateError, TimeoutError) as error:
        raise type(error)(f"cloud {index}: {error}") from error


def _array(cloud: Any) -> Any:
    if isinstance(cloud, PointCloud):
        return cloud.points
    return cloud if issparse(cloud) else np.asarray(cloud)
