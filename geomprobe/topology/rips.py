"""Vietoris-Rips persistent homology."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from geomprobe.exceptions import MemoryEstimateError
from geomprobe.isolation import run_isolated
from geomprobe.memory import allowed_bytes, require_memory
from geomprobe.points import as_points
from geomprobe.storage import Array
from geomprobe.topology import engines, mst
from geomprobe.topology.diagrams import Diagrams
from geomprobe.topology.dispatch import BYTES_A_DISTANCE, Size, at_most_seconds, choose
from geomprobe.topology.engines import ENGINES, Engine
from geomprobe.topology.filtration import Edges
from geomprobe.topology.graphs import (
    as_graph,
    distance_matrix,
    extent,
    largest_edge,
    length_at,
    require_metric,
)
from geomprobe.topology.mst import SpanningTree

#: H29 takes 60 points, and those have more simplices than 55 bits can number.
_LARGEST_DIM = 28

# Runs that may take longer go to a process of their own, which takes a quarter of a second.
_PATIENCE = 10.0

_NO_COCYCLE = np.empty((0, 0), np.int64)


def rips_persistence(
    X: Any,
    max_dim: int = 1,
    *,
    metric: str = "euclidean",
    threshold: float | None = None,
    coeff: int = 2,
    engine: str = "auto",
    n_jobs: int | None = None,
    return_edges: bool = False,
    return_cocycles: bool = False,
    time_limit: float | None = None,
    memory_limit: int | None = None,
) -> Diagrams:
    """Compute the Vietoris-Rips persistence diagrams of a point cloud.

    Parameters
    ----------
    X : array of shape (n, d), or (n, n) array or sparse matrix with ``metric="precomputed"``
        Points, or their distances; of a sparse matrix, what is not stored is no edge, and neither
        is an infinite distance. Duplicates are legal.
    max_dim : int
        Largest homology dimension, at most 28.
    metric : str
        A metric of ``scipy.spatial.distance.pdist``, or ``"precomputed"``.
    threshold : float, optional
        Largest edge to consider. Edges above the enclosing radius never matter, since nothing is
        born or dies there; ``None`` considers all that do.
    coeff : int
        Prime number of elements of the coefficient field.
    engine : str
        ``"auto"``: the one that is expected to be fastest among those that are installed, can take
        the problem, and fit in memory. Or ``"ripser"``, ``"giotto-ph"``, ``"gudhi"``,
        ``"redzed-tda"``, ``"tda"``. H0 alone is read off a minimum spanning tree.
    n_jobs : int, optional
        Threads, for engines that have any; ``None``: all cores.
    return_edges : bool
        Also return the critical edges, those at which each bar is born and dies.
    return_cocycles : bool
        Also return a representative cocycle of each bar. By ripser.
    time_limit : float, optional
        Seconds after which the engine, or the spanning tree, is stopped.
    memory_limit : int, optional
        Bytes that the run may take; by default half of what is available.

    Returns
    -------
    Diagrams
        Dimensions 0 to ``max_dim``, with an infinite bar of H0 for each component. Bars of length
        zero are left out.

    Raises
    ------
    ValueError
        Fewer than two points, all points equal, numbers that are not real, NaN or infinite
        points, distances that are none, ``coeff`` not prime; no installed engine can take it.
    MemoryEstimateError
        The run is expected to exceed the memory limit; the message says what would fit.
    MemoryError
        It did exceed the limit.
    TimeoutError
        The time limit has passed.

    Notes
    -----
    Distances are taken in float64, from differences where points nearly coincide. Engines round
    them to float32, a relative error of 6e-8, and all give the same diagrams. With ``return_edges``
    or ``return_cocycles`` births and deaths are exact: the engine is shown the order of the edges
    in place of their lengths, of which homology depends on nothing else.

    A run that may take over ten seconds, or that has a limit, goes to a process of its
    own, so that Ctrl-C and the limits stop it at once; no engine stops by itself. Time and memory
    are expected from the number of points, edges and triangles within the enclosing radius, as
    measured on circles, tori, spheres, clusters, walks and activations. These are upper estimates,
    not bounds: reduced matrices have none that is of use. A spanning tree takes O(n d) memory for
    points under the Euclidean distance, O(n) beside a matrix and O(edges) beside a sparse one.
    Since its time is known before, it goes to a process of its own only where it may not be done
    within the time limit; there it takes some seconds to start.

    Homology in dimension k takes at least 2k + 2 points (Meshulam 2003), hence the largest
    ``max_dim``: beyond, simplices cannot be numbered.

    References
    ----------
    Bauer, U. (2021). Ripser: efficient computation of Vietoris-Rips persistence barcodes. Journal
    of Applied and Computational Topology 5. Pérez, J. B., Hauke, S., Lupo, U., Caorsi, M. and
    Dassatti, A. (2021). giotto-ph. arXiv 2107.05412. RedZeD: arXiv 2606.06310. Meshulam, R. (2003).
    Domination numbers and homology. Journal of Combinatorial Theory A 102(2).
    """
    require_parameters(max_dim, metric, threshold, coeff, engine)
    graph = as_graph(X) if metric == "precomputed" else as_points(X)
    facts = {"metric": metric, "coeff": int(coeff), "n_points": graph.shape[0]}
    if max_dim == 0 and engine == "auto" and not return_cocycles:
        tree = _spanning_tree(graph, metric, n_jobs, time_limit, memory_limit)
        return _components(tree, threshold, return_edges, facts)

    graph = _measured(graph, metric, memory_limit)
    limit = largest_edge(graph, threshold)
    deadline = None if time_limit is None else time.monotonic() + time_limit

    def up_to(top: float) -> Diagrams:
        return _diagrams(
            graph,
            top,
            int(max_dim),
            coeff=int(coeff),
            engine=engine,
            n_jobs=n_jobs or os.cpu_count() or 1,
            edges=return_edges,
            cocycles=return_cocycles,
            deadline=deadline,
            memory_limit=memory_limit,
        )

    try:
        found = _early(graph, limit, up_to) if max_dim == 1 else None
        found = up_to(limit) if found is None else found
    except TimeoutError:
        raise TimeoutError(f"ran past its time limit of {time_limit:g} s") from None
    return replace(found, threshold=limit, **facts)


def _early(graph: Any, limit: float, up_to: Callable[[float], Diagrams]) -> Diagrams | None:
    """Return H0 and H1 from fewer edges, where that is found to be all; otherwise None."""
    from geomprobe.topology.truncation import end_of_loops

    end = end_of_loops(graph, limit)
    if end is None:
        return None
    try:
        found = up_to(end)
    except MemoryEstimateError:
        return None  # All the edges do not fit either, and that error says what would.
    return found if np.isfinite(found[1]).all() else None


def _diagrams(
    graph: Any,
    limit: float,
    max_dim: int,
    *,
    coeff: int,
    engine: str,
    n_jobs: int,
    edges: bool,
    cocycles: bool,
    deadline: float | None,
    memory_limit: int | None,
) -> Diagrams:
    """Return the diagrams of a graph up to a limit, by an engine."""
    degrees, spread = extent(graph, limit)
    size = Size.of_degrees(degrees, max_dim, spread)
    chosen = choose(
        size,
        engine,
        coeff=coeff,
        sparse=not isinstance(graph, np.ndarray),
        cocycles=cocycles,
        edges=edges,
        memory_limit=memory_limit,
        length_at=lambda share: length_at(graph, limit, share),
    )
    ordered = Edges.of(graph, limit) if edges or cocycles else None
    arrays, top, unit = _shown(graph, limit, ordered, chosen)
    parameters = {
        "engine": chosen.name,
        "n_points": graph.shape[0],
        "max_dim": max_dim,
        "limit": top,
        "coeff": coeff,
        "cocycles": cocycles,
        "n_jobs": n_jobs,
    }
    limited = deadline is not None or memory_limit is not None
    if limited or at_most_seconds(chosen, size) > _PATIENCE:
        found = run_isolated(
            engines.__file__,
            "compute",
            arrays,
            parameters,
            time_limit=None if deadline is None else max(deadline - time.monotonic(), 0.0),
            memory_limit=allowed_bytes(memory_limit),
        )
    else:
        found = engines.compute(arrays, parameters)

    dgms, critical, representatives = [], [], []
    for dim in range(max_dim + 1):
        dgm = found[f"dgm_{dim}"]
        kept = np.arange(len(dgm))
        if ordered is None:
            dgm = unit * dgm
        else:
            dgm, ends, kept = ordered.bars(dgm)
            critical.append(ends)
        dgms.append(dgm)
        representatives.append(
            tuple(found.get(f"cocycle_{dim}_{bar}", _NO_COCYCLE) for bar in kept)
        )
    return Diagrams(
        tuple(dgms),
        chosen.name,
        critical_edges=tuple(critical) if edges else None,
        cocycles=tuple(representatives) if cocycles else None,
    )


def require_parameters(
    max_dim: int, metric: str, threshold: float | None, coeff: int, engine: str
) -> None:
    """Raise ValueError unless :func:`rips_persistence` takes these."""
    require_metric(metric)
    if not isinstance(max_dim, int | np.integer) or not 0 <= max_dim <= _LARGEST_DIM:
        raise ValueError(
            f"max_dim must be a whole number from 0 to {_LARGEST_DIM}, got {max_dim!r}"
        )
    if not isinstance(coeff, int | np.integer) or not _is_prime(coeff):
        raise ValueError(f"coeff must be a prime number, got {coeff!r}")
    if threshold is not None and not threshold > 0:
        raise ValueError(f"threshold must be positive or None, got {threshold}")
    if engine != "auto" and engine not in ENGINES:
        raise ValueError(f"engine must be 'auto' or one of {list(ENGINES)}, got {engine!r}")


def _is_prime(number: int) -> bool:
    return number >= 2 and all(number % k for k in range(2, int(number**0.5) + 1))


def _measured(graph: Any, metric: str, memory_limit: int | None) -> Any:
    """Return distances: those that were given, or those of points."""
    if metric == "precomputed":
        return graph
    n = len(graph)
    needed = BYTES_A_DISTANCE * n**2
    allowed = allowed_bytes(memory_limit)
    fewer = math.isqrt((needed if allowed is None else allowed) // BYTES_A_DISTANCE)
    fits = [
        f"at most {fewer} points, whose distances fit",
        "the edges up to a small threshold, as a sparse matrix with metric='precomputed'",
    ]
    if metric == "euclidean":
        fits[0] += ", for instance by landmark_persistence"
        fits += [
            "sparse_rips_persistence, in few dimensions",
            "H0 alone (max_dim=0, engine='auto', no cocycles), which takes no distances",
        ]
    remedy = f"What would fit: {'; '.join(fits)}."
    require_memory(needed, f"The distances of {n} points", remedy, limit=memory_limit)
    return distance_matrix(graph, metric)


def _spanning_tree(
    graph: Any, metric: str, n_jobs: int | None, time_limit: float | None, memory_limit: int | None
) -> SpanningTree:
    """Return the minimum spanning tree, or forest, of points or of their distances."""
    n = graph.shape[0]
    if metric == "euclidean":
        dim = graph.shape[1]
        seconds = mst.at_most_seconds(n, dim=dim)
        require_memory(
            mst.needed_bytes(n, dim),
            f"The spanning tree of {n} points in {dim} dimensions",
            "Use fewer points, for instance by landmark_persistence.",
            limit=memory_limit,
        )
        arrays = {"points": graph}
    elif isinstance(graph := _measured(graph, metric, memory_limit), np.ndarray):
        seconds, arrays = mst.at_most_seconds(n), {"distances": graph}
    else:
        seconds = mst.at_most_seconds(n, edges=graph.nnz)
        require_memory(
            mst.BYTES_AN_EDGE * graph.nnz,
            f"The spanning forest of {graph.nnz} edges",
            "Give fewer edges, up to a smaller threshold.",
            limit=memory_limit,
        )
        arrays = {"rows": graph.row, "columns": graph.col, "lengths": graph.data}
    parameters = {"n_points": n, "n_jobs": n_jobs}
    if time_limit is None or seconds < time_limit:
        found = mst.spanning_forest(arrays, parameters)
    else:
        found = run_isolated(
            mst.__file__, "spanning_forest", arrays, parameters, time_limit=time_limit
        )
    return SpanningTree(found["edges"], found["lengths"], n, str(found["engine"]))


def _components(
    tree: SpanningTree, threshold: float | None, return_edges: bool, facts: dict[str, Any]
) -> Diagrams:
    """Return H0 from a minimum spanning tree, cut at the threshold."""
    limit = np.inf if threshold is None else float(threshold)
    died = (tree.lengths > 0) & (tree.lengths <= limit)
    n_components = tree.n_points - int((tree.lengths <= limit).sum())
    deaths = np.concatenate([tree.lengths[died], np.full(n_components, np.inf)])
    dgm = np.stack([np.zeros(len(deaths)), deaths], axis=1)
    critical = np.full((len(dgm), 4), -1)
    critical[: int(died.sum()), 2:] = np.sort(tree.edges[died], axis=1)
    return Diagrams(
        (dgm,),
        f"spanning tree by {tree.engine}",
        threshold=limit,
        critical_edges=(critical,) if return_edges else None,
        **facts,
    )


def _shown(
    graph: Any, limit: float, edges: Edges | None, engine: Engine
) -> tuple[dict[str, Array], float, float]:
    """Return what an engine is shown, the limit in its unit, and the unit."""
    dense = isinstance(graph, np.ndarray)
    if edges is not None:
        if dense:
            return {"matrix": edges.rank_matrix(engine.dtype)}, edges.limit, 1.0
        ranks: Array = np.arange(1, len(edges) + 1, dtype=engine.dtype)
        return _sparse(edges.ends[:, 0], edges.ends[:, 1], ranks), edges.limit, 1.0
    # A power of two, so that no scale overflows or underflows in float32.
    exponent = int(np.frexp(limit)[1])
    unit = 2.0**exponent if abs(exponent) > 32 else 1.0
    # A little above the limit, since engines round distances to float32.
    top = float(np.nextafter(np.float32(limit / unit), np.float32(np.inf)))
    if not dense:
        kept = graph.data <= limit
        lengths = (graph.data[kept] / unit).astype(engine.dtype)
        return _sparse(graph.row[kept], graph.col[kept], lengths), top, unit
    if not np.isfinite(graph.max()):
        # What is infinite is as good as what is beyond the limit.
        graph = np.minimum(graph, 2 * limit)
    matrix = graph if unit == 1 else graph / unit
    return {"matrix": matrix.astype(engine.dtype, copy=False)}, top, unit


def _sparse(rows: Array, columns: Array, lengths: Array) -> dict[str, Array]:
    return {
        "rows": rows.astype(np.int32),
        "columns": columns.astype(np.int32),
        "lengths": lengths,
    }
