"""The engines that compute Rips persistence, each behind the same few lines.

Also run by path in a process of its own, hence no imports from geomprobe.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: Diagrams by dimension, and cocycles by dimension where they were asked for.
Found = tuple[list[Array], list[list[Array]]]

# Beyond these, engines end the process or count wrongly, so that nothing may reach them unchecked:
# ripser keeps a coefficient in 8 signed bits and the number of a simplex in 55.
_RIPSER_COEFF = 127
_RIPSER_INDEX = 2**55 - 1
#: Up to here whole numbers are exact in the float32 that engines keep distances in.
LARGEST_RANK = 2**24


@dataclass(frozen=True)
class Engine:
    """One engine, and what it can take.

    Parameters
    ----------
    name : str
        As on the package index.
    module : str
        What it is imported as.
    run : callable
        ``run(graph, max_dim, limit, coeff, cocycles, n_jobs)``, where ``graph`` is a dense
        matrix of finite distances, or a sparse COO matrix of edges i < j.
    largest_coeff : int
        Largest prime field.
    largest_index : int
        How many simplices of one dimension it can number.
    sparse, cocycles : bool
        Whether it takes sparse graphs, and gives cocycles.
    dtype : type
        What it takes distances in. Inside, all keep them in float32.
    """

    name: str
    module: str
    run: Callable[..., Found]
    largest_coeff: int = 2
    largest_index: int = _RIPSER_INDEX
    sparse: bool = False
    cocycles: bool = False
    dtype: type = np.float32

    @property
    def installed(self) -> bool:
        """Whether it can be imported; it is not imported for that."""
        return find_spec(self.module) is not None


def _ripser(
    graph: Any, max_dim: int, limit: float, coeff: int, cocycles: bool, n_jobs: int
) -> Found:
    from ripser import ripser

    with warnings.catch_warnings():
        # It advises to transpose where there are more coordinates than points.
        warnings.simplefilter("ignore", UserWarning)
        found = ripser(
            graph,
            maxdim=max_dim,
            thresh=limit,
            coeff=coeff,
            distance_matrix=True,
            do_cocycles=cocycles,
        )
    return found["dgms"], found["cocycles"] if cocycles else []


def _giotto_ph(
    graph: Any, max_dim: int, limit: float, coeff: int, cocycles: bool, n_jobs: int
) -> Found:
    from gph import ripser_parallel

    found = ripser_parallel(
        graph, maxdim=max_dim, thresh=limit, coeff=coeff, metric="precomputed", n_threads=n_jobs
    )
    return found["dgms"], []


def _gudhi(
    graph: Any, max_dim: int, limit: float, coeff: int, cocycles: bool, n_jobs: int
) -> Found:
    from gudhi.sklearn.rips_persistence import RipsPersistence

    # It collapses edges from H2 on, where that pays, and not below.
    rips = RipsPersistence(
        homology_dimensions=list(range(max_dim + 1)),
        threshold=limit,
        input_type="full distance matrix"
        if isinstance(graph, np.ndarray)
        else "distance coo_matrix",
        homology_coeff_field=coeff,
    )
    return rips.fit_transform([graph])[0], []


def _redzed(
    graph: Any, max_dim: int, limit: float, coeff: int, cocycles: bool, n_jobs: int
) -> Found:
    from redzed_tda import rips

    found: Any = rips(graph, maxdim=max_dim, threshold=limit)
    return list(found), []


def _tda(graph: Any, max_dim: int, limit: float, coeff: int, cocycles: bool, n_jobs: int) -> Found:
    from tda import persistent_homology

    found = persistent_homology(
        np.ascontiguousarray(graph, dtype=np.float32),
        max_dim=max_dim,
        threshold=limit,
        distance_matrix=True,
        parallel=n_jobs > 1,
    )
    return list(found), []


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("ripser", "ripser", _ripser, _RIPSER_COEFF, sparse=True, cocycles=True),
        Engine("giotto-ph", "gph", _giotto_ph, _RIPSER_COEFF, sparse=True),
        # Simplices and coefficients share 128 bits; beyond, gudhi itself changes its method.
        Engine("gudhi", "gudhi", _gudhi, 32749, 2**112, sparse=True),
        Engine("redzed-tda", "redzed_tda", _redzed, dtype=np.float64),
        Engine("tda", "tda", _tda),
    )
}


def compute(arrays: dict[str, Array], parameters: dict[str, Any]) -> dict[str, Array]:
    """Run an engine on a graph given by plain arrays, and return what it found as plain arrays.

    Parameters
    ----------
    arrays : dict
        ``matrix``, or ``rows``, ``columns`` and ``lengths`` of a sparse graph.
    parameters : dict
        ``engine``, ``n_points``, and what :attr:`Engine.run` takes.

    Returns
    -------
    dict
        ``dgm_k``, and ``cocycle_k_i`` for each bar.
    """
    settings = dict(parameters)
    engine, n = ENGINES[settings.pop("engine")], settings.pop("n_points")
    if "matrix" in arrays:
        graph: Any = arrays["matrix"]
    else:
        from scipy.sparse import coo_matrix

        ends = (arrays["rows"], arrays["columns"])
        graph = coo_matrix((arrays["lengths"], ends), shape=(n, n))
    dgms, cocycles = engine.run(graph, **settings)
    found = {f"dgm_{dim}": np.asarray(dgm, dtype=np.float64) for dim, dgm in enumerate(dgms)}
    for dim, listed in enumerate(cocycles):
        found |= {f"cocycle_{dim}_{i}": np.asarray(one) for i, one in enumerate(listed)}
    return found


def compute_sparse(arrays: dict[str, Array], parameters: dict[str, Any]) -> dict[str, Array]:
    """Compute the persistence of gudhi's sparse Rips complex.

    Parameters
    ----------
    arrays : dict
        ``points`` of shape (n, d), or ``matrix`` of distances.
    parameters : dict
        ``epsilon``, ``max_dim`` and ``coeff``.

    Returns
    -------
    dict
        ``dgm_k``.
    """
    from gudhi import RipsComplex

    named = {"points": "points", "matrix": "distance_matrix"}
    given = {named[name]: array for name, array in arrays.items()}
    top = parameters["max_dim"]
    complex_ = RipsComplex(**given, sparse=parameters["epsilon"])
    tree = complex_.create_simplex_tree(max_dimension=top + 1)
    tree.compute_persistence(parameters["coeff"], min_persistence=0.0)
    intervals = (tree.persistence_intervals_in_dimension(dim) for dim in range(top + 1))
    return {f"dgm_{dim}": np.reshape(bars, (-1, 2)) for dim, bars in enumerate(intervals)}
