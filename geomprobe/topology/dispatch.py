"""Which engine to run, and what it will take, before it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, exp, inf, log
from typing import Any

import numpy as np

from geomprobe.memory import allowed_bytes, require_memory
from geomprobe.topology.engines import ENGINES, LARGEST_RANK, Engine


@dataclass(frozen=True)
class Size:
    """How large a Rips complex is, and what its edges are like.

    Parameters
    ----------
    n_points : int
    max_dim : int
        Largest homology dimension.
    simplices : tuple of int
        Upper bounds on the number of simplices of dimension 1, 2, ..., max(1, ``max_dim``), those
        longer than the threshold or the enclosing radius left out. Edges are counted; simplices of
        dimension k are at most the sum of C(degree, k) / (k + 1) over the points.
    spread : float
        Standard deviation of the lengths of these edges over their mean.
    """

    n_points: int
    max_dim: int
    simplices: tuple[int, ...]
    spread: float

    @classmethod
    def of_degrees(cls, degrees: Any, max_dim: int, spread: float) -> Size:
        """Return the size from the number of neighbours of each point."""
        numbers, counts = np.unique(np.asarray(degrees), return_counts=True)
        pairs = list(zip(numbers.tolist(), counts.tolist(), strict=True))
        simplices = tuple(
            sum(count * comb(degree, dim) for degree, count in pairs) // (dim + 1)
            for dim in range(1, max(max_dim, 1) + 1)
        )
        return cls(len(degrees), max_dim, simplices, spread)

    @property
    def density(self) -> float:
        """Share of all pairs of points that are edges."""
        return self.simplices[0] / comb(self.n_points, 2)

    def shrunk(
        self, *, points: float = 1.0, edges: float = 1.0, max_dim: int | None = None
    ) -> Size:
        """Return the size with a share of the points or of the edges, or of a smaller dimension."""
        top = self.max_dim if max_dim is None else max_dim
        simplices = (
            int(count * points ** (dim + 1) * edges**dim)
            for dim, count in enumerate(self.simplices[: max(top, 1)], start=1)
        )
        return Size(int(self.n_points * points), top, tuple(simplices), self.spread)


@dataclass(frozen=True)
class Cost:
    """What an engine takes.

    Parameters
    ----------
    h1, h2 : tuple of four floats
        For H1, and for H2 and above: the logarithm of the seconds is the product of these with (1,
        log of the number of simplices in the largest homology dimension, density, spread).
    edge, simplex : float
        Bytes an edge of the complex, and a simplex of each higher dimension up to that of the
        homology: the largest found, rounded up. A polygon's, of which most is fill-in; without a
        large loop edges take a fifth of it.
    """

    h1: tuple[float, float, float, float]
    h2: tuple[float, float, float, float]
    edge: float
    simplex: float


# Least squares over circles, polygons, spheres, tori, Gaussians, clusters, walks, digits and
# activations of 200 to 2,000 points (H1), 200 to 500 (H2), on two cores of 2.5 GHz. Chosen by
# these, H1 always went to the fastest engine, and H2 took 1.15 times the fastest in the geometric
# mean over clouds left out of the fit.
_COSTS = {
    "ripser": Cost((-15.8, 1.20, -0.3, 3.5), (-15.3, 1.14, -0.6, 0.4), 1600, 160),
    "giotto-ph": Cost((-17.1, 1.23, 0.1, 3.5), (-18.2, 1.10, 1.7, 1.1), 1600, 80),
    "gudhi": Cost((-19.0, 1.22, 2.0, 4.4), (-29.1, 1.21, 12.9, -2.8), 1600, 150),
    "redzed-tda": Cost((-17.7, 1.07, 0.7, 2.3), (-21.2, 1.18, 3.6, -1.1), 60, 16),
    "tda": Cost((-18.4, 1.24, 0.1, 4.9), (-20.5, 1.03, 4.3, 1.2), 1600, 60),
}
# No run took more than nine times what is expected of it; half of them took less than that.
_SPREAD = 6.0
# Distances, their order, and what an engine is shown.
BYTES_A_DISTANCE = 32
_BYTES_AN_EDGE_IN_H0 = 80


def expected_seconds(engine: Engine, size: Size) -> float:
    """Return the time that a run is expected to take."""
    cost = _COSTS[engine.name]
    features = (1.0, log(max(size.simplices[-1], 1)), size.density, size.spread)
    weights = cost.h1 if size.max_dim < 2 else cost.h2
    return exp(sum(weight * one for weight, one in zip(weights, features, strict=True)))


def at_most_seconds(engine: Engine, size: Size) -> float:
    """Return a time that most runs stay below."""
    return _SPREAD * expected_seconds(engine, size)


def needed_bytes(engine: Engine, size: Size) -> int:
    """Return an upper estimate of the peak of memory, distances included."""
    cost = _COSTS[engine.name]
    edges, *higher = size.simplices
    an_edge = cost.edge if size.max_dim else _BYTES_AN_EDGE_IN_H0
    return int(BYTES_A_DISTANCE * size.n_points**2 + an_edge * edges + cost.simplex * sum(higher))


def choose(
    size: Size,
    engine: str = "auto",
    *,
    coeff: int = 2,
    sparse: bool = False,
    cocycles: bool = False,
    edges: bool = False,
    memory_limit: int | None = None,
    length_at: Callable[[float], float] | None = None,
) -> Engine:
    """Return the engine that is expected to be fastest among those that can do it.

    Parameters
    ----------
    size : Size
    engine : str
        The only one to consider; ``"auto"``: all that are installed.
    coeff, sparse, cocycles, edges
        What it must take and give.
    memory_limit : int, optional
        Bytes; by default half of what is available.
    length_at : callable, optional
        The length up to which a given share of the edges lies, for the message of an error.

    Raises
    ------
    ValueError
        No engine that is installed can do it; the message says why, of each.
    MemoryEstimateError
        Those that can do it would not fit; the message says what would.
    """
    considered = list(ENGINES.values()) if engine == "auto" else [ENGINES[engine]]
    reasons = {one.name: _why_not(one, size, coeff, sparse, cocycles, edges) for one in considered}
    able = [one for one in considered if not reasons[one.name]]
    if not able:
        said = "; ".join(f"{name} {reason}" for name, reason in reasons.items())
        raise ValueError(f"no engine can compute this: {said}")
    able.sort(key=lambda one: expected_seconds(one, size))
    limit = inf if (allowed := allowed_bytes(memory_limit)) is None else allowed
    for one in able:
        if needed_bytes(one, size) <= limit:
            return one
    leanest = min(able, key=lambda one: needed_bytes(one, size))
    what = f"Rips persistence of {size.n_points} points up to dimension {size.max_dim}"
    require_memory(
        needed_bytes(leanest, size),
        f"{what} by {leanest.name}",
        _remedy(leanest, size, limit, length_at),
        limit=memory_limit,
    )
    return leanest


def _remedy(
    engine: Engine, size: Size, limit: float, length_at: Callable[[float], float] | None
) -> str:
    """Say what would fit: how many points, which threshold, or which dimension."""
    limit *= 0.8  # Of other points, or with a threshold, the edges are spread otherwise.
    fits = [
        f"max_dim={dim}"
        for dim in range(size.max_dim)
        if needed_bytes(engine, size.shrunk(max_dim=dim)) <= limit
    ][-1:]
    if points := _largest(lambda share: needed_bytes(engine, size.shrunk(points=share)) <= limit):
        fits.append(f"{int(points * size.n_points)} points, for instance by landmark_persistence")
    kept = _largest(lambda share: needed_bytes(engine, size.shrunk(edges=share)) <= limit)
    if kept and length_at is not None:
        fits.append(f"threshold={length_at(kept):.3g}, which keeps {kept:.1%} of the edges")
    return f"What would fit: {'; '.join(fits)}." if fits else "Use fewer points."


def _largest(fits: Callable[[float], bool]) -> float:
    """Return the largest share of 1/128, 2/128, ... that fits; 0 where none does."""
    return max((step / 128 for step in range(1, 128) if fits(step / 128)), default=0.0)


def _why_not(
    engine: Engine, size: Size, coeff: int, sparse: bool, cocycles: bool, edges: bool
) -> str:
    """Say why an engine cannot do it; empty if it can."""
    n, dim = size.n_points, size.max_dim
    if not engine.installed:
        return "is not installed"
    if coeff > engine.largest_coeff:
        return f"takes coefficients up to {engine.largest_coeff} only"
    if comb(n, min(n // 2, dim + 2)) > engine.largest_index:
        return (
            f"cannot number the simplices of {n} points up to dimension {dim + 1}: use fewer "
            "points or a smaller max_dim"
        )
    if sparse and not engine.sparse:
        return "takes no sparse graphs"
    if cocycles and not engine.cocycles:
        return "gives no cocycles"
    if (edges or cocycles) and size.simplices[0] > LARGEST_RANK:
        return f"tells at most {LARGEST_RANK} edges apart"
    return ""
