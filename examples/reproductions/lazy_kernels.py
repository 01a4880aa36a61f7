"""Wide networks keep their tangent kernel.

**Claim.** As the width n of a network grows, its tangent kernel at initialisation tends to a
deterministic one, which is known in closed form, and training changes it less and less: relatively
by at most the order of 1/√n. Weights of the first and of the last layer change by 1/√n, those
between by 1/n. Jacot, A., Gabriel, F. and Hongler, C. (2018), *Neural tangent kernel: convergence
and generalization in neural networks*, NeurIPS; Lee, J. et al. (2019), *Wide neural networks of any
depth evolve as linear models under gradient descent*, NeurIPS, theorem 2.1 and figure 1, where the
change of the kernel is seen to be nearer to 1/n.

**Here.** Fully connected ReLU networks of two hidden layers in the NTK parametrisation, without
biases, trained by full-batch gradient descent on the squared error to tell 0 from 1 in 32 digits of
scikit-learn, for one and the same time; twelve seeds for each width, and a hundred for the kernel
at initialisation. Kernels by `geomprobe.information.ntk`, the limit by
`geomprobe.information.relu_kernels`. Slopes are those of log-log lines over widths, a mean over
seeds with its standard error.

**What differs.** Two hidden layers for three, 32 images for 128, and 600 steps for 2^17; the
network has then fitted its labels. A first run of five seeds, with width 32 too, left two of the
slopes open, one of twelve the last.

**What it does not show.** That networks of practical width and learning rate are lazy. They are
not: the same figure shows how much a network of 64 units changes.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, reproduce, slope
from sklearn.datasets import load_digits
from torch import Tensor, nn

import geomprobe as gp
from geomprobe.information import ntk, relu_kernels

VARIANCES = (2.0, 2.0, 1.0)


class Scaled(nn.Module):
    """A linear layer in the NTK parametrisation: parameters N(0, 1), scaled in the pass."""

    def __init__(self, fan_in: int, fan_out: int, variance: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in))
        self.scale = math.sqrt(variance / fan_in)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return self.scale * (x @ self.weight.T)


def network(width: int) -> nn.Sequential:
    """Return a random network of two hidden layers."""
    layers: list[nn.Module] = []
    for (fan_in, fan_out), variance in zip(pairwise((64, width, width, 1)), VARIANCES, strict=True):
        layers += [Scaled(fan_in, fan_out, variance), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def distance_from_limit(width: int, seed: int, x: Tensor, limit: np.ndarray) -> float:
    """Return the relative distance of a random network's kernel from that of infinite width."""
    torch.manual_seed(seed)
    kernel = ntk(network(width).double(), gp.Samples(x)).matrix
    return float(np.linalg.norm(kernel - limit) / np.linalg.norm(limit))


def changes(
    width: int, seed: int, steps: int, x: Tensor, y: Tensor, limit: np.ndarray
) -> list[float]:
    """Train one network; return the relative changes of kernel and layers, and the last loss."""
    torch.manual_seed(seed)
    model = network(width).double()
    samples = gp.Samples(x)
    initial = ntk(model, samples)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    rate = 1.0 / np.linalg.eigvalsh(limit)[-1] * len(x)
    optimizer = torch.optim.SGD(model.parameters(), lr=float(rate))
    for _ in range(steps):
        loss = (model(x).squeeze(1) - y).square().mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = [
        float((now.detach() - then).norm() / then.norm())
        for now, then in zip(model.parameters(), before, strict=True)
    ]
    return [ntk(model, samples).drift(initial), *weights, loss.item()]


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Train networks of several widths."""
    digits = load_digits(n_class=2)
    x = torch.tensor(digits.data[:32] / 16)
    x = x / x.norm(dim=1, keepdim=True) * math.sqrt(x.shape[1])
    y = torch.tensor(2.0 * digits.target[:32] - 1)
    widths = [16, 32] if smoke else [64, 128, 256, 512, 1024]
    seeds, steps, draws = (2, 5, 2) if smoke else (12, 600, 100)
    limit = relu_kernels(x.numpy(), VARIANCES)[1]
    found = np.array(
        [[changes(width, seed, steps, x, y, limit) for width in widths] for seed in range(seeds)]
    )
    apart = np.array(
        [[distance_from_limit(width, seed, x, limit) for width in widths] for seed in range(draws)]
    )
    curves = {
        "kernel, in training": (found[:, :, 0], -math.inf, -0.5),
        "first layer": (found[:, :, 1], -0.6, -0.4),
        "middle layer": (found[:, :, 2], -1.15, -0.85),
        "last layer": (found[:, :, 3], -0.6, -0.4),
        "kernel at first from its limit": (apart, -0.65, -0.35),
    }
    checks = []
    figure, ax = plt.subplots(figsize=(6, 4))
    for name, (values, low, high) in curves.items():
        value, stderr = slope(widths, values)
        checks.append(Check(f"{name}: slope in the width", value, stderr, low, high))
        ax.loglog(widths, values.mean(axis=0), marker="o", label=f"{name}: {value:+.2f}")
    checks.append(
        Check("largest loss after training", found[:, :, -1].max(), at_most=1.0 if smoke else 0.01)
    )
    ax.set(xlabel="width", ylabel="relative change", title="Changes, and their slopes")
    ax.legend(fontsize=8)
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
