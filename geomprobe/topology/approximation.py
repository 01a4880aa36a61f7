"""Persistence diagrams of clouds too large for all of them, each with a bound on its error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from geomprobe.isolation import run_isolated
from geomprobe.landmarks import farthest_points
from geomprobe.memory import allowed_bytes
from geomprobe.points import as_points
from geomprobe.storage import Array
from geomprobe.topology import engines
from geomprobe.topology.diagrams import Diagrams
from geomprobe.topology.graphs import dense_distances
from geomprobe.topology.rips import require_parameters, rips_persistence

# Sparse complexes of more points go to a process of their own, which Ctrl-C and limits can end.
_POINTS_AT_ONCE = 500


def landmark_persistence(
    X: Any,
    n_landmarks: int,
    max_dim: int = 1,
    *,
    metric: str = "euclidean",
    start: int = 0,
    **options: Any,
) -> Diagrams:
    """Compute the Vietoris-Rips persistence of landmarks that cover a cloud.

    Parameters
    ----------
    X : array of shape (n, d), or (n, n) with ``metric="precomputed"``
        Points, or their distances, all of them finite.
    n_landmarks : int
        At least 2. Each next one is the point farthest from all before it; of fewer points, all.
    max_dim : int
        Largest homology dimension.
    metric : {"euclidean", "precomputed"}
    start : int
        Index of the first landmark.
    **options
        Those of :func:`~geomprobe.topology.rips_persistence`, but for ``threshold``.

    Returns
    -------
    Diagrams
        Of the landmarks; ``error_bound`` is twice their covering radius. Critical edges and
        cocycles name points of X.

    Raises
    ------
    ValueError
        Fewer than two landmarks, another metric, and what ``rips_persistence`` refuses.

    Notes
    -----
    A correspondence of each point with the nearest landmark changes no distance by more than twice
    the covering radius r, and so moves no bar by more than 2r in the bottleneck distance, whose
    unit is here, as ever, the diameter of simplices. Choosing the landmarks takes O(k n d) time and
    O(n d) memory.

    References
    ----------
    Chazal, F., de Silva, V. and Oudot, S. (2014). Persistence stability for geometric complexes.
    Geometriae Dedicata 173. Gonzalez, T. F. (1985). Clustering to minimize the maximum intercluster
    distance. Theoretical Computer Science 38.
    """
    _require_metric(metric)
    if n_landmarks < 2:
        raise ValueError(f"n_landmarks must be at least 2, got {n_landmarks}")
    if "threshold" in options:
        raise ValueError(
            "a threshold cuts bars off at other lengths than those of all points, and no bound "
            "would hold: leave it out"
        )
    cloud = as_points(X) if metric == "euclidean" else dense_distances(X)
    chosen, radii = farthest_points(cloud, n_landmarks, start=start, metric=metric)
    landmarks = cloud[chosen] if metric == "euclidean" else cloud[np.ix_(chosen, chosen)]
    found = rips_persistence(landmarks, max_dim, metric=metric, **options)
    names = np.append(chosen, -1)
    edges, cocycles = found.critical_edges, found.cocycles
    return replace(
        found,
        error_bound=2 * float(radii[-1]),
        critical_edges=None if edges is None else tuple(names[ends] for ends in edges),
        cocycles=None
        if cocycles is None
        else tuple(tuple(_renamed(one, chosen) for one in listed) for listed in cocycles),
    )


def sparse_rips_persistence(
    X: Any,
    epsilon: float = 0.3,
    max_dim: int = 1,
    *,
    metric: str = "euclidean",
    coeff: int = 2,
    time_limit: float | None = None,
    memory_limit: int | None = None,
) -> Diagrams:
    """Compute the persistence of a sparse Vietoris-Rips filtration. By gudhi.

    Parameters
    ----------
    X : array of shape (n, d), or (n, n) with ``metric="precomputed"``
        Points, or their distances, all of them finite. The distances must obey the triangle
        inequality.
    epsilon : float
        Between 0 and 1. Scales are right up to a factor of 1 / (1 - epsilon); the complex gets
        smaller as it grows.
    max_dim : int
        Largest homology dimension.
    metric : {"euclidean", "precomputed"}
    coeff : int
        Prime number of elements of the coefficient field.
    time_limit, memory_limit
        See :func:`~geomprobe.topology.rips_persistence`. How large the complex gets depends on the
        intrinsic dimension of the cloud, and is not known before.

    Returns
    -------
    Diagrams
        ``error_bound`` is additive, as ever; the bound by a factor is sharper at small scales.

    Raises
    ------
    ImportError
        gudhi is not installed.
    ValueError
        ``epsilon`` or another number is out of its range, and what ``rips_persistence`` refuses.
    TimeoutError, MemoryError
        A limit was reached.

    Notes
    -----
    With c = 1 / (1 - epsilon) the bottleneck distance of the logarithms of both diagrams is at most
    log c: bars that are matched differ by a factor of c at most, and those that are not live from b
    to at most c^2 b. Up to the enclosing radius R this is an error of at most (c - 1) R. The size
    is linear in n, with a constant that grows exponentially with the doubling dimension; a cloud of
    high intrinsic dimension stays nearly complete.

    References
    ----------
    Sheehy, D. R. (2013). Linear-size approximations to the Vietoris-Rips filtration. Discrete &
    Computational Geometry 49. Cavanna, N. J., Jahanseri, M. and Sheehy, D. R. (2015). A geometric
    perspective on sparse filtrations. CCCG. Buchet, M., Chazal, F., Oudot, S. Y. and Sheehy, D. R.
    (2016). Efficient and robust persistent homology for measures. Computational Geometry 58.
    """
    _require_metric(metric)
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon must be between 0 and 1, got {epsilon}")
    engine = engines.ENGINES["gudhi"]
    if not engine.installed:
        raise ImportError("sparse Rips persistence is computed by gudhi: pip install gudhi")
    require_parameters(max_dim, metric, None, coeff, engine.name)
    if coeff > engine.largest_coeff:
        raise ValueError(f"gudhi takes coefficients up to {engine.largest_coeff}, got {coeff}")
    cloud = as_points(X) if metric == "euclidean" else dense_distances(X)
    arrays = {"points" if metric == "euclidean" else "matrix": cloud}
    parameters = {"epsilon": float(epsilon), "max_dim": int(max_dim), "coeff": int(coeff)}
    limited = time_limit is not None or memory_limit is not None
    if limited or len(cloud) > _POINTS_AT_ONCE:
        found = run_isolated(
            engines.__file__,
            "compute_sparse",
            arrays,
            parameters,
            time_limit=time_limit,
            memory_limit=allowed_bytes(memory_limit),
        )
    else:
        found = engines.compute_sparse(arrays, parameters)
    dgms = tuple(found[f"dgm_{dim}"] for dim in range(max_dim + 1))
    ends = np.concatenate([dgm.ravel() for dgm in dgms])
    largest = max(_eccentricity(cloud, metric), float(ends[np.isfinite(ends)].max(initial=0.0)))
    return Diagrams(
        dgms,
        engine.name,
        metric=metric,
        coeff=coeff,
        n_points=len(cloud),
        error_bound=largest * epsilon / (1 - epsilon),
    )


def _require_metric(metric: str) -> None:
    if metric not in ("euclidean", "precomputed"):
        raise ValueError(
            f"metric must be 'euclidean' or 'precomputed', got {metric!r}; pass other distances as "
            "precomputed"
        )


def _renamed(cocycle: Array, names: Array) -> Array:
    """Return a cocycle with the names of its vertices in place of their places."""
    renamed: Array = cocycle.astype(np.int64)
    renamed[:, :-1] = names[renamed[:, :-1]]
    return renamed


def _eccentricity(cloud: Array, metric: str) -> float:
    """Return the distance from a central point to the farthest one: beyond, all is a cone."""
    if metric == "precomputed":
        return float(cloud.max(axis=1).min())
    centre = cloud[np.linalg.norm(cloud - cloud.mean(axis=0), axis=1).argmin()]
    return float(np.linalg.norm(cloud - centre, axis=1).max())
