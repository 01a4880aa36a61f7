"""Rips persistence beside the engines called by themselves: time, memory, equal diagrams.

Every contender gets the same points, and takes its distances as its own documentation does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CONTENDERS = ("geomprobe", "ripser", "giotto_ph", "gudhi", "redzed_tda", "tda")
PACKAGES = ("ripser", "giotto-ph", "gudhi", "redzed-tda", "tda")
THREADS = 2


def _named(dgms: Any) -> dict[str, Array]:
    return {f"h{dim}": np.asarray(dgm, dtype=np.float64) for dim, dgm in enumerate(dgms)}


def geomprobe(points: Array, max_dim: int) -> dict[str, Array]:
    """Call rips_persistence with its defaults."""
    from geomprobe.topology import rips_persistence

    return _named(rips_persistence(points, max_dim))


#: So many that it loads what it takes for many points as well.
geomprobe.warm_up = 300  # type: ignore[attr-defined]


def ripser(points: Array, max_dim: int) -> dict[str, Array]:
    """Call ripser.py."""
    from ripser import ripser as compute

    return _named(compute(points, maxdim=max_dim)["dgms"])


def giotto_ph(points: Array, max_dim: int) -> dict[str, Array]:
    """Call giotto-ph on two threads."""
    from gph import ripser_parallel

    return _named(ripser_parallel(points, maxdim=max_dim, n_threads=THREADS)["dgms"])


def gudhi(points: Array, max_dim: int) -> dict[str, Array]:
    """Call gudhi's RipsPersistence, which collapses edges by its own rule."""
    from gudhi.sklearn.rips_persistence import RipsPersistence

    rips = RipsPersistence(
        homology_dimensions=list(range(max_dim + 1)),
        input_type="point cloud",
        homology_coeff_field=2,
    )
    return _named(rips.fit_transform([points])[0])


def redzed_tda(points: Array, max_dim: int) -> dict[str, Array]:
    """Call redzed-tda up to the enclosing radius, which it does not find by itself."""
    from redzed_tda import pairwise_distances, rips

    distances = pairwise_distances(points)
    enclosing = float(distances.max(axis=1).min())
    return _named(rips(distances, maxdim=max_dim, threshold=np.nextafter(enclosing, np.inf)))


def tda(points: Array, max_dim: int) -> dict[str, Array]:
    """Call tda, which takes float32."""
    from tda import persistent_homology

    single = np.ascontiguousarray(points, dtype=np.float32)
    return _named(persistent_homology(single, max_dim=max_dim))


def clouds(quick: bool) -> dict[str, tuple[Array, int]]:
    """Return points and largest dimension of each case, by name."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    from geomprobe import Probe, TrajectoryRecorder

    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    y = torch.tensor(digits.target)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    recorder = TrajectoryRecorder(model, dim=500, seed=0)
    for step in range(1, 101 if quick else 1001):
        rows = torch.randint(len(x), (64,))
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorder.record(step, loss.item())
    with Probe(model.eval(), ["3", "5"], points=len(x)) as probe, torch.no_grad():
        model(x)
    conv, dense = probe.clouds["3"].points, probe.clouds["5"].points
    rng = np.random.default_rng(0)
    turn, angle = rng.uniform(0, 2 * np.pi, (2, 2000))
    radius = 2 + np.cos(angle)
    torus = np.stack([radius * np.cos(turn), radius * np.sin(turn), np.sin(angle)], axis=1)
    path = np.asarray(recorder.trajectory.points, dtype=np.float64)
    if quick:
        return {"H1, activations, 200 x 64": (dense[:200], 1), "H2, the same": (dense[:100], 2)}
    return {
        "H1, activations of a dense layer, 1797 x 64": (dense, 1),
        "H1, activations of a convolution, 1797 x 256": (conv, 1),
        "H1, path of SGD, 1000 x 500": (path, 1),
        "H1, torus, 2000 x 3": (torus, 1),
        "H2, activations of a dense layer, 500 x 64": (dense[:500], 2),
        "H2, activations of a convolution, 500 x 256": (conv[:500], 2),
    }


def largest_difference(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """Return how far a bar of the one is from the nearest of the other, over the largest death.

    In the maximum norm, the largest over all bars of both that are longer than the rounding of
    float32. Infinity where their numbers differ.
    """
    from scipy.spatial import cKDTree

    top = max(float(np.max(dgm[np.isfinite(dgm)], initial=0.0)) for dgm in ours.values())
    worst = 0.0
    for name, dgm in ours.items():
        one, other = (bars[bars[:, 1] - bars[:, 0] > 1e-6 * top] for bars in (dgm, theirs[name]))
        ends = [bars[np.isfinite(bars[:, 1])] for bars in (one, other)]
        if len(one) != len(other) or len(ends[0]) != len(ends[1]):
            return float("inf")
        if len(ends[0]):
            for a, b in (ends, ends[::-1]):
                worst = max(worst, float(cKDTree(a).query(b, p=np.inf)[0].max()) / top)
    return worst


def main() -> None:
    """Measure, print tables, and write the figures as JSON."""
    from benchmark import Benchmark
    from peers import show

    bench = Benchmark("homology", __doc__, PACKAGES, THREADS)
    contenders = bench.beside(CONTENDERS)
    for title, (points, max_dim) in bench.chosen(clouds(bench.quick)).items():
        options = {"max_dim": max_dim}
        _, rows = bench.compare(title, points, contenders, largest_difference, options, cap=30)
        show(title, rows)
    bench.write()


if __name__ == "__main__":
    main()
