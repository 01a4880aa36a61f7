"""Networks have few linear regions, before training and after.

**Claim.** Of the number of linear regions that an architecture can have, random networks have a
vanishing part: in a plane it grows as the square of the number of neurons, along a line as that
number, whatever the depth; and training changes it by no more than a small factor. Hanin, B. and
Rolnick, D. (2019), *Complexity of linear regions in deep networks*, ICML, and *Deep ReLU networks
have surprisingly few activation patterns*, NeurIPS.

**Here.** ReLU networks of three hidden layers of equal widths on digits of scikit-learn, before and
after training to fit 1,000 of them; exact activation regions in planes through three digits of
different classes (`geomprobe.tropical.slice_regions`, certified) and along lines between two
(`linear_pieces`). Twenty networks a width; five left three numbers open. Slopes are those of
log-log lines over widths.

**What differs.** Three hidden layers only, and He's initialisation with biases N(0, 0.01), which
the paper's theorem wants to be random. Bounds are those of networks with two inputs, as which a
plane is seen.

**What it does not show.** Regions away from the data; nor that fewer regions generalize better.
"""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, mean, reproduce, slope
from sklearn.datasets import load_digits
from torch import Tensor, nn

from geomprobe.tropical import linear_pieces, region_bounds, slice_regions


def network(width: int) -> nn.Sequential:
    """Return a random network of three hidden layers."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in ((64, width), (width, width), (width, width), (width, 10)):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.normal_(linear.bias, std=0.1)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def fit(model: nn.Sequential, x: Tensor, y: Tensor, epochs: int) -> None:
    """Train by Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()


def regions(model: nn.Sequential, corners: Tensor) -> list[int]:
    """Return how many regions a plane and a line have."""
    plane = slice_regions(model, *corners, margin=0.0)
    if not plane.certified:
        raise RuntimeError(f"a plane is not certified: {plane.failures}")
    return [
        plane.activation_regions,
        linear_pieces(model, corners[0], corners[1]).activation_pieces,
    ]


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Count regions before and after training."""
    digits = load_digits()
    x = torch.tensor(digits.data[:1000] / 16, dtype=torch.float32)
    y = torch.tensor(digits.target[:1000])
    corners = torch.stack([x[y == label][0] for label in (0, 1, 2)])
    widths = [8, 16] if smoke else [16, 32, 64, 128]
    seeds, epochs = (range(2), 1) if smoke else (range(20), 30)
    found = np.zeros((len(seeds), len(widths), 2, 2))
    for seed in seeds:
        for k, width in enumerate(widths):
            torch.manual_seed(seed)
            model = network(width)
            found[seed, k, 0] = regions(model, corners)
            fit(model, x, y, epochs)
            found[seed, k, 1] = regions(model, corners)
    neurons = 3 * np.array(widths)
    bound = [region_bounds((2, width, width, width, 10)).serra for width in widths]
    ratio = np.log(found[:, :, 1, 0] / found[:, :, 0, 0])
    checks = [
        Check(
            "planes: slope in the number of neurons", *slope(neurons, found[:, :, 0, 0]), 1.6, 2.2
        ),
        Check(
            "lines: slope in the number of neurons", *slope(neurons, found[:, :, 0, 1]), 0.8, 1.15
        ),
        Check("share of the bound, widest", *mean(found[:, -1, 0, 0] / bound[-1]), at_most=0.01),
        Check(
            "planes: log ratio, trained over untrained",
            *mean(ratio.mean(axis=1)),
            -math.log(3),
            math.log(3),
        ),
        Check(
            "slope after training, less that before",
            *mean([np.polyfit(np.log(neurons), row, 1)[0] for row in ratio]),
            -0.3,
            0.3,
        ),
    ]
    figure, ax = plt.subplots(figsize=(6, 4))
    for k, what in enumerate(("a plane", "a line")):
        for trained, style in enumerate(("--", "-")):
            label = f"{what}, {'trained' if trained else 'at random'}"
            ax.loglog(
                neurons,
                found[:, :, trained, k].mean(axis=0),
                style,
                marker="o",
                color=f"C{k}",
                label=label,
            )
    ax.loglog(neurons, bound, color="grey", label="bound of a plane (Serra et al. 2018)")
    ax.set(xlabel="neurons", title="activation regions")
    ax.legend(fontsize=8)
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
