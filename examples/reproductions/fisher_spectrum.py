"""A few large and very many tiny eigenvalues of the Fisher information.

**Claim.** Of a random network of width M, the mean eigenvalue of the Fisher information falls as
1/M, the mean square stays of the order of 1, and the largest grows as M: most directions of the
space of parameters hardly change the outputs, and a few change them a great deal. Karakida, R.,
Akaho, S. and Amari, S. (2019), *Universal statistics of Fisher information in deep neural networks:
mean field approach*, AISTATS, theorems 1 to 4.

**Here.** Fully connected networks of three hidden layers and one output; ReLU with weights N(0,
2/fan-in) and biases N(0, 0.1), tanh with N(0, 3/fan-in) and N(0, 0.64), as in the paper's figures;
100 Gaussian inputs of dimension M; twenty seeds for each width. The exact spectrum is taken from
`geomprobe.information.fisher_gram`, and slopes are those of log-log lines over widths, a mean over
seeds with its standard error.

**What differs.** The paper takes the limit of infinite width first. At finite width slopes are a
little off, and the bounds leave 0.15 for that. The first run had biases N(0, 0.01) for both; the
largest eigenvalue of tanh then grew with slope 0.68, since an odd activation without biases has
mean 0, on which that growth rests. Five seeds left one slope open.

**What it does not show.** Nothing of trained networks, nor of other parametrisations: with NTK
scaling all eigenvalues change by a factor of the width.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, reproduce, slope
from torch import nn

import geomprobe as gp
from geomprobe.information import Gaussian, fisher_gram

#: Activation, and variances of weights, times the fan-in, and of biases.
ACTIVATIONS: dict[str, tuple[type[nn.Module], float, float]] = {
    "ReLU": (nn.ReLU, 2.0, 0.1),
    "tanh": (nn.Tanh, 3.0, 0.64),
}
MARGIN = 0.15


def network(
    width: int, activation: type[nn.Module], variance: float, of_biases: float
) -> nn.Sequential:
    """Return a random network of three hidden layers."""
    layers: list[nn.Module] = []
    for outputs in (width, width, width, 1):
        linear = nn.Linear(width, outputs)
        nn.init.normal_(linear.weight, std=(variance / width) ** 0.5)
        nn.init.normal_(linear.bias, std=of_biases**0.5)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


def moments(width: int, seed: int, kind: tuple[type[nn.Module], float, float]) -> list[float]:
    """Return the mean, the mean square and the largest of the eigenvalues of one network."""
    torch.manual_seed(seed)
    model = network(width, *kind).double()
    inputs = torch.randn(100, width, dtype=torch.float64)
    gram = fisher_gram(model, gp.Samples(inputs), likelihood=Gaussian())
    eigenvalues = gram.spectrum()
    p = gram.n_parameters
    return [eigenvalues.sum() / p, (eigenvalues**2).sum() / p, eigenvalues.max()]


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Take the spectra of networks of several widths."""
    widths = [16, 32] if smoke else [64, 128, 256, 512, 1024]
    seeds = range(2 if smoke else 20)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    checks = []
    for ax, (name, kind) in zip(axes, ACTIVATIONS.items(), strict=True):
        found = np.array([[moments(width, seed, kind) for width in widths] for seed in seeds])
        for k, (what, expected) in enumerate(
            {"mean": -1.0, "mean square": 0.0, "largest": 1.0}.items()
        ):
            value, stderr = slope(widths, found[:, :, k])
            bounds = expected - MARGIN, expected + MARGIN
            checks.append(
                Check(f"{name}: slope of the {what} in the width", value, stderr, *bounds)
            )
            ax.loglog(
                widths, found[:, :, k].mean(axis=0), marker="o", label=f"{what}: {value:+.2f}"
            )
        ax.set(title=f"{name}, and slopes", xlabel="width")
        ax.legend()
    axes[0].set_ylabel("eigenvalues")
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
