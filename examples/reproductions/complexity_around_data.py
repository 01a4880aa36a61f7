"""Long after the data are fitted, linear regions move from the samples to the decision boundary.

**Claim.** When training goes on after the labels are fitted, the number of linear regions around
training samples falls again, and regions gather at the decision boundary: the function becomes
smoother at the data and less smooth between classes. Humayun, A. I., Balestriero, R. and Baraniuk,
R. (2024), *Deep networks always grok and here is why*, ICML.

**Here.** ReLU networks of four hidden layers of 100 units on 1,000 digits of scikit-learn, by Adam
at a constant learning rate of 0.001 with batches of 100, for 30,000 steps. At six of them
`geomprobe.tropical.local_complexity` counts the units that bend near training samples, and near
points of the decision boundary on lines between samples of different classes, at one radius. One
half of the samples tells at which step, of those from the first fit on, the number is largest; the
other half gives the numbers. What decides are logarithms of ratios, the mean of four seeds: of the
number around samples at the end over that at this step; of that at the boundary between the same
two; and of that at the boundary over that around samples at the end.

**What differs.** Humayun et al. train on MNIST and CIFAR-10 among others, for 100,000 steps and
more, and show the boundary by the regions of a plane.

**What came out.** From 10,000 to 30,000 steps the number rises around samples and, more, at the
boundary, where it comes to be the larger. It has not begun to fall around samples: the end is the
peak in every network. So the first two ratios are of numbers over themselves, and that the second
is within its bound says nothing. Whether the number falls later, these runs are too short to tell.

**What it does not show.** That networks generalize, or are robust, because of this.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, mean, reproduce
from sklearn.datasets import load_digits
from torch import Tensor, nn

import geomprobe as gp
from geomprobe.tropical import local_complexity


def train(model: nn.Module, x: Tensor, y: Tensor, steps: list[int]) -> list[nn.Module]:
    """Train; return copies of the model after each of some numbers of steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    kept = []
    for step in range(steps[-1] + 1):
        if step in steps:
            kept.append(copy.deepcopy(model))
        rows = torch.randint(len(x), (100,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return kept


def boundary(model: nn.Module, x: Tensor) -> Tensor:
    """Return a point of the decision boundary between each input and the next, where there is."""
    with torch.no_grad():
        first = model(x).argmax(dim=1)
        differ = first != first.roll(-1)
        start, end, first = x[differ], x.roll(-1, 0)[differ], first[differ]
        for _ in range(20):
            middle = (start + end) / 2
            same = (model(middle).argmax(dim=1) == first)[:, None]
            start, end = torch.where(same, middle, start), torch.where(same, end, middle)
    return end


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Train networks, and count what bends near samples and boundary as they learn."""
    digits = load_digits()
    n, seeds, width = (100, 2, 20) if smoke else (1000, 4, 100)
    steps = [50, 100, 200] if smoke else [100, 300, 1000, 3000, 10_000, 30_000]
    x = torch.tensor(digits.data[:n] / 16, dtype=torch.float32)
    y = torch.tensor(digits.target[:n])
    radius = 0.05 * float((x - x.mean(dim=0)).norm() / math.sqrt(n))
    found, peaks, errors = [], [], []
    for seed in range(seeds):
        torch.manual_seed(seed)
        sizes = [64, width, width, width, width]
        hidden = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
        model = nn.Sequential(*(layer for pair in hidden for layer in pair), nn.Linear(width, 10))
        kept = train(model, x, y, steps)
        counts = np.array(
            [
                [
                    local_complexity(one, gp.Samples(inputs), radius=radius).total.value
                    for inputs in (x[::2], x[1::2], boundary(one, x[1::2]))
                ]
                for one in kept
            ]
        )
        with torch.no_grad():
            wrong = np.array([float((one(x).argmax(dim=1) != y).float().mean()) for one in kept])
        fitted = np.flatnonzero(wrong == 0)[0] if not wrong.all() else len(steps) - 1
        peaks.append(fitted + counts[fitted:, 0].argmax())
        found.append(counts[:, 1:])
        errors.append(wrong[-1])
    logs = np.log(found)  # Of each seed and step, around samples and at the boundary.
    ends = logs[:, -1] - logs[np.arange(seeds), peaks]
    checks = [
        Check("largest training error", max(errors), at_most=1.0 if smoke else 0.0),
        Check("samples: log ratio, end over peak", *mean(ends[:, 0]), at_most=math.log(0.9)),
        Check("boundary: log ratio, end over the same step", *mean(ends[:, 1]), at_least=0.0),
        Check(
            "log ratio at the end, boundary over samples",
            *mean(logs[:, -1, 1] - logs[:, -1, 0]),
            at_least=math.log(1.1),
        ),
    ]
    figure, ax = plt.subplots(figsize=(6, 4))
    for k, name in enumerate(("training samples", "decision boundary")):
        values = np.exp(logs[:, :, k])
        ax.plot(steps, values.T, color=f"C{k}", lw=0.5)
        ax.plot(steps, values.mean(axis=0), color=f"C{k}", marker="o", label=name)
    ax.set_xscale("log")
    ax.set(xlabel="step", ylabel="units that bend nearby", ylim=(0, None))
    ax.legend()
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
