"""Euclidean minimum spanning trees beside other packages, and beside half a matrix product.

Half a matrix product is what any algorithm spends that takes the distances of all pairs once, in
single precision: a floor for many dimensions, but none for few, where trees rule most pairs out. It
is taken in blocks that stay in the caches, which is the harder measure; half of one call for all
points, which writes the matrix to memory, stands beside it where that fits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
from homology import gudhi as gudhi_persistence

Array = np.ndarray[Any, Any]
THREADS = 2
_BLOCK = 1024
FLOORS = ("lower_blocks", "all_blocks")
TREES = ("geomprobe", "quitefastmst", "fast_hdbscan", "hdbscan")
#: These hold the distances of all pairs.
QUADRATIC = ("one_call", "scipy_dense", "ripser", "giotto_ph", "gudhi", "redzed_tda")
_MOST_POINTS, _MOST_POINTS_QUICK = 5_000, 1_000
PACKAGES = (
    "quitefastmst",
    "fast_hdbscan",
    "hdbscan",
    "ripser",
    "giotto-ph",
    "gudhi",
    "redzed-tda",
)


def lower_blocks(points: Array) -> dict[str, Array]:
    """Multiply each pair of blocks of points once, in single precision."""
    return _multiplied(points, half=True)


def all_blocks(points: Array) -> dict[str, Array]:
    """Multiply all blocks of points, in single precision: twice the work."""
    return _multiplied(points, half=False)


def _multiplied(points: Array, *, half: bool) -> dict[str, Array]:
    import torch

    blocks = torch.from_numpy(points.astype(np.float32)).split(_BLOCK)
    product = torch.empty(_BLOCK * _BLOCK)
    for i, left in enumerate(blocks):
        for right in blocks[: i + 1 if half else None]:
            out = product[: len(left) * len(right)].view(len(left), len(right))
            torch.mm(left, right.T, out=out)
    return {}


def one_call(points: Array) -> dict[str, Array]:
    """Multiply all points with all, in one call, in single precision; return them, as it does."""
    single = points.astype(np.float32)
    np.matmul(single, single.copy().T)  # Of one array with itself numpy works out a half.
    return {}


def geomprobe(points: Array) -> dict[str, Array]:
    """Call euclidean_mst with its defaults, but for the threads."""
    from geomprobe.topology import euclidean_mst

    return {"lengths": euclidean_mst(points, n_jobs=THREADS).lengths}


#: So many that it loads what it takes for many points as well.
geomprobe.warm_up = 5_000  # type: ignore[attr-defined]


def quitefastmst(points: Array) -> dict[str, Array]:
    """Call quitefastmst, which takes its threads from OMP_NUM_THREADS."""
    from quitefastmst import mst_euclid

    return {"lengths": np.sort(mst_euclid(points)[0])}


def fast_hdbscan(points: Array) -> dict[str, Array]:
    """Call the spanning tree of fast_hdbscan, without mutual reachability; single precision."""
    from fast_hdbscan.hdbscan import compute_minimum_spanning_tree

    if points.shape[1] > 30:
        raise ValueError("it approximates above 30 dimensions: not compared")

    return {"lengths": np.sort(compute_minimum_spanning_tree(points, min_samples=1)[0][:, 2])}


def hdbscan(points: Array) -> dict[str, Array]:
    """Call HDBSCAN as far as its exact spanning tree matters; what it clusters is included."""
    from hdbscan import HDBSCAN

    model = HDBSCAN(
        min_samples=1,
        approx_min_span_tree=False,
        gen_min_span_tree=True,
        core_dist_n_jobs=THREADS,
    ).fit(points)
    return {"lengths": np.sort(model.minimum_spanning_tree_.to_numpy()[:, 2])}


def scipy_dense(points: Array) -> dict[str, Array]:
    """Call SciPy's spanning tree on the matrix of distances; equal points are no edge to it."""
    from scipy.sparse.csgraph import minimum_spanning_tree
    from scipy.spatial.distance import cdist

    return {"lengths": np.sort(minimum_spanning_tree(cdist(points, points)).data)}


def ripser(points: Array) -> dict[str, Array]:
    """Call ripser.py for H0."""
    from ripser import ripser as compute

    return _deaths(compute(points, maxdim=0)["dgms"][0])


def giotto_ph(points: Array) -> dict[str, Array]:
    """Call giotto-ph for H0."""
    from gph import ripser_parallel

    return _deaths(ripser_parallel(points, maxdim=0, n_threads=THREADS)["dgms"][0])


def gudhi(points: Array) -> dict[str, Array]:
    """Call gudhi's RipsPersistence for H0."""
    return _deaths(gudhi_persistence(points, 0)["h0"])


def redzed_tda(points: Array) -> dict[str, Array]:
    """Call redzed-tda for H0, with its own distances."""
    from redzed_tda import pairwise_distances, rips

    return _deaths(rips(pairwise_distances(points), maxdim=0)[0])


def _deaths(diagram: Any) -> dict[str, Array]:
    deaths = np.asarray(diagram, dtype=np.float64)[:, 1]
    return {"lengths": np.sort(deaths[np.isfinite(deaths)])}


def clouds(quick: bool) -> dict[str, Array]:
    """Return points of each case, by name."""
    rng = np.random.default_rng(0)
    shapes = [(5_000, 64), (10_000, 500), (50_000, 64), (30_000, 500), (200_000, 3)]
    if quick:
        shapes = [(500, 64), (4_100, 250), (3_000, 3)]
    normal = {f"normal, {n} x {d}": rng.normal(size=(n, d)) for n, d in shapes}
    steps = 300 if quick else 5_000
    path = 1e3 + 1e-3 * np.cumsum(rng.normal(size=(steps, 500)), axis=0)
    return {**normal, f"path far from the origin, {steps} x 500": path}


def difference(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """Return the largest difference of lengths, over the longest; infinity if not as many."""
    one, other = ours["lengths"], theirs["lengths"]
    if len(one) != len(other):
        return float("inf")
    return float(np.abs(one - other).max() / one[-1])


def to_floor(runs: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the ratio of each contender to the floor, round by round.

    The floor is the faster way to half a product in that round. One that was left out has the first
    rounds only.
    """
    from summaries import summary

    lower, both = (runs[name].seconds for name in FLOORS)
    floor = [min(a, b / 2) for a, b in zip_longest(lower, both, fillvalue=math.inf)]
    ratios = {
        name: [own / least for own, least in zip(one.seconds, floor, strict=False)]
        for name, one in runs.items()
    }
    return {name: summary(those) for name, those in ratios.items() if those}


def main() -> None:
    """Measure, print tables, and write the figures as JSON."""
    from benchmark import Benchmark
    from peers import in_words, show

    bench = Benchmark("mst", __doc__, PACKAGES, THREADS)
    for title, points in bench.chosen(clouds(bench.quick)).items():
        fits = len(points) <= (_MOST_POINTS_QUICK if bench.quick else _MOST_POINTS)
        contenders = (*FLOORS, *bench.beside((*TREES, *(QUADRATIC if fits else ()))))
        runs, rows = bench.compare(title, points, contenders, difference, cap=60)
        ratios = to_floor(runs)
        for name, ratio in ratios.items():
            rows[name]["ratio_to_floor"] = ratio
        if not fits:
            rows |= {name: {"failed": "holds all distances: not tried"} for name in QUADRATIC}
        show(title, rows)
        if "geomprobe" in ratios:
            print(f"  geomprobe to half a product: {in_words(ratios['geomprobe'])}")
    bench.write()


if __name__ == "__main__":
    main()
