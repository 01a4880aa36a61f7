"""The PH dimension of a path of SGD, beside the published procedure.

That is tolgabirdal/PHDimGeneralization: subsets of 200, 250, ..., 950 iterates, one each, ripser
with its default of loops as well, of which H0 is taken. geomprobe takes ten subsets of each of ten
sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
THREADS = 2
CONTENDERS = ("geomprobe", "published", "published_h0", "giotto_ph_h0", "gudhi_h0")
PACKAGES = ("ripser", "giotto-ph", "gudhi")


def geomprobe(points: Array) -> dict[str, Array]:
    """Call ph_dimension with its defaults."""
    from geomprobe.topology import ph_dimension

    found = ph_dimension(points)
    return {"dimension": np.array(found.estimate.value), "stderr": np.array(found.estimate.stderr)}


def published(points: Array) -> dict[str, Array]:
    """Call ripser on each subset with its default, loops included."""
    from ripser import ripser

    return _published(points, lambda subset: ripser(subset)["dgms"][0])


def published_h0(points: Array) -> dict[str, Array]:
    """Call ripser on each subset for H0 alone."""
    from ripser import ripser

    return _published(points, lambda subset: ripser(subset, maxdim=0)["dgms"][0])


def giotto_ph_h0(points: Array) -> dict[str, Array]:
    """Call giotto-ph on each subset for H0 alone."""
    from gph import ripser_parallel

    def h0(subset: Array) -> Array:
        return ripser_parallel(subset, maxdim=0, n_threads=THREADS)["dgms"][0]

    return _published(points, h0)


def gudhi_h0(points: Array) -> dict[str, Array]:
    """Call gudhi's RipsPersistence on each subset for H0 alone."""
    from homology import gudhi

    return _published(points, lambda subset: gudhi(subset, 0)["h0"])


def _published(points: Array, h0: Callable[[Array], Any]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    sizes = np.arange(200, 1000, 50)
    # A warm-up on a few points still goes through every step.
    sizes = sizes[sizes <= len(points)] if len(points) > 200 else np.array([20, 40])
    sums = []
    for size in sizes:
        deaths = np.asarray(h0(points[rng.choice(len(points), size, replace=False)]))[:, 1]
        sums.append(deaths[np.isfinite(deaths)].sum())
    slope = np.polyfit(np.log(sizes), np.log(sums), 1)[0]
    return {"dimension": np.array(1 / (1 - slope))}


def path(steps: int) -> Array:
    """Return the last iterates of a small network trained on digits, of shape (steps, 39,414)."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    from geomprobe import TrajectoryRecorder

    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    model = nn.Sequential(
        nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = TrajectoryRecorder(model)
    for step in range(500 + steps):
        rows = torch.randint(len(x), (64,))
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 500:
            recorder.record(step, loss.item())
    return np.asarray(recorder.trajectory.points, dtype=np.float64)


def differences(points: Array) -> dict[str, float]:
    """Return how far the total persistence of all iterates is from geomprobe's, relatively."""
    from ripser import ripser

    from geomprobe.topology import euclidean_mst

    deaths = ripser(points, maxdim=0)["dgms"][0][:-1, 1]
    ours = euclidean_mst(points).weighted_sum()
    return {"ripser": float(abs(deaths.sum() - ours) / ours)}


def difference(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """Return how far two dimensions are from each other."""
    return float(abs(theirs["dimension"] - ours["dimension"]))


def main() -> None:
    """Measure, print a table, and write the figures as JSON."""
    from benchmark import Benchmark
    from peers import show

    bench = Benchmark("ph_dimension", __doc__, PACKAGES, THREADS)
    steps = 300 if bench.quick else 1000
    ((title, points),) = bench.chosen({f"PH dimension of {steps} x 39414": path(steps)}).items()
    runs, rows = bench.compare(title, points, bench.beside(CONTENDERS), difference, cap=120)
    bench.result |= {
        "dimension": {
            name: float(one.answer["dimension"]) for name, one in runs.items() if one.answer
        },
        "stderr": float(runs["geomprobe"].answer["stderr"]),
        "total_persistence_differs_by": differences(points),
    }
    show(title, rows)
    dimension, stderr = bench.result["dimension"]["geomprobe"], bench.result["stderr"]
    print(f"  dimension {dimension:.4f} +- {stderr:.4f}")
    print(f"  total persistence of all iterates: {bench.result['total_persistence_differs_by']}")
    bench.write()


if __name__ == "__main__":
    main()
