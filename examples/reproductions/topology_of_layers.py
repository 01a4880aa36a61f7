"""Trained networks simplify the topology of their classes, layer by layer.

**Claim.** Through the layers of a network that classifies well, the Betti numbers of each class
fall, to those of one piece without loops; and ReLU, which is not injective, simplifies faster than
tanh. Naitzat, G., Zhitnikov, A. and Lim, L.-H. (2020), *Topology of deep neural networks*, JMLR 21.

**Here.** Four concentric rings in the plane, the first and third of one class and the second and
fourth of the other, so that each class has Betti numbers 2 and 2; networks of six hidden layers of
15 units, trained until they err on none of 1,200 points. Betti numbers of each class, on average
over the two, at every layer by the paper's recipe, the metric of neighbour graphs at 2.5 steps
(`geomprobe.topology.LayerTopology`, by `gp.audit`). What decides: their sum at the input, that of
the last hidden layer, and the area under the curve over layers of ReLU less that of tanh, in pairs
of eight seeds.

**What differs.** The paper's sets are larger and three-dimensional for the most part, its networks
wider and of ten layers. Nets that do not reach zero training error are left out and counted.

**What it does not show.** That simplification makes networks generalize. With another number of
neighbours Betti numbers differ.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, mean, reproduce
from torch import Tensor, nn

import geomprobe as gp
from geomprobe.topology import LayerTopology

ACTIVATIONS = {"ReLU": nn.ReLU, "tanh": nn.Tanh}
DEPTH, WIDTH, RINGS = 6, 15, 4


def rings(n: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return points on concentric rings, and the class of each."""
    ring = np.arange(n) % RINGS
    radius = 1 + ring + generator.uniform(-0.15, 0.15, n)
    # The outer rings are longer: the same number of points is taken of each.
    angle = generator.uniform(0, 2 * np.pi, n)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) / RINGS
    return torch.tensor(points, dtype=torch.float32), torch.tensor(ring % 2)


def train(activation: type[nn.Module], seed: int, steps: int, x: Tensor, y: Tensor) -> Any:
    """Return a trained network, and whether it errs on no point."""
    torch.manual_seed(seed)
    sizes = [2, *DEPTH * [WIDTH]]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        rows = torch.randperm(len(x))[:200]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        return model, bool((model(x).argmax(1) == y).all())


def betti_sums(model: nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
    """Return the sum of Betti numbers 0 and 1, a mean over classes, of the input and each layer."""
    report = gp.audit(
        model,
        (x, y),
        layers=["0#in", *(str(2 * k + 1) for k in range(DEPTH))],
        analyzers=[LayerTopology(n_neighbors=14, max_points=400, replicates=2)],
        points=len(x),
        progress=False,
    )
    arrays = next(one for one in report.findings if one.subject == "model").arrays
    return np.asarray(arrays["betti_0"] + arrays["betti_1"])


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Train networks and follow the topology of their classes."""
    seeds, n, steps = (range(1), 400, 20) if smoke else (range(8), 1200, 6000)
    curves: dict[str, dict[int, np.ndarray]] = {name: {} for name in ACTIVATIONS}
    for seed in seeds:
        x, y = rings(n, np.random.default_rng(seed))
        for name, activation in ACTIVATIONS.items():
            model, fits = train(activation, seed, steps, x, y)
            if fits or smoke:
                curves[name][seed] = betti_sums(model, x, y)
    both = sorted(curves["ReLU"].keys() & curves["tanh"].keys())
    left_out = len(seeds) - len(both)
    checks = [Check("pairs of networks left out, of 8", left_out, at_most=5)]
    if len(both) > 1:
        of = {name: np.array([found[seed] for seed in both]) for name, found in curves.items()}
        start = of["ReLU"][:, 0]
        checks.append(Check("sum of Betti numbers of the input", *mean(start), 3.5, 4.5))
        for name, found in of.items():
            checks.append(
                Check(f"{name}: that of the last layer", *mean(found[:, -1]), at_most=2.0)
            )
        less = (of["ReLU"] - of["tanh"]).mean(axis=1)
        checks.append(Check("ReLU less tanh, mean over layers", *mean(less), at_most=0.0))
    figure, ax = plt.subplots(figsize=(6, 4))
    for color, (name, found) in zip(("C0", "C1"), curves.items(), strict=True):
        for curve in found.values():
            ax.plot(range(DEPTH + 1), curve, color=color, lw=0.6, alpha=0.6)
        if found:
            average = np.mean(list(found.values()), axis=0)
            ax.plot(range(DEPTH + 1), average, color=color, marker="o", label=name)
    ax.set(xlabel="layer (0: input)", ylabel="sum of Betti numbers 0 and 1", ylim=(0, None))
    ax.set_title("a class, on average over both")
    ax.legend()
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
