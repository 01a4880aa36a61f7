"""Full-batch gradient descent trains at the edge of stability.

**Claim.** Gradient descent with step size η cannot follow directions of curvature above 2/η for
long. In full-batch training the largest eigenvalue of the Hessian rises until it comes to 2/η, and
then stays at it or a little above, while the loss goes on falling, though not at every step. Cohen,
J., Kaur, S., Li, Y., Kolter, J. Z. and Talwalkar, A. (2021), *Gradient descent on neural networks
typically occurs at the edge of stability*, ICLR.

**Here.** A tanh network of two hidden layers of 64 units and the squared error to one-hot labels on
500 digits of scikit-learn; full-batch gradient descent with three step sizes. The largest
eigenvalue λ is that of `geomprobe.information.top_eigenpairs` of the exact Hessian, every 100
steps. The number that decides is η λ / 2, its median over the second half of training, and its
standard error over three seeds. The control is what it is at the beginning.

**What differs.** 8 x 8 digits for CIFAR-10, and 3,000 steps. A first run with step sizes 0.1, 0.2
and 0.4 ended before the sharpness had come to its limit with the smallest. With the cross-entropy
the sharpness falls again late in training, as the paper also sees; that is not tried here.

**What it does not show.** Nothing of stochastic gradients or of momentum, where the sharpness
settles elsewhere.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, mean, reproduce
from sklearn.datasets import load_digits
from torch import Tensor, nn

import geomprobe as gp
from geomprobe.information import curvature, top_eigenpairs

EVERY = 100


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return half the squared error of a sample, on average."""
    return (outputs - targets).square().sum(dim=1).mean() / 2


def train(
    rate: float, seed: int, steps: int, samples: gp.Samples
) -> tuple[list[float], list[float]]:
    """Return rate times sharpness over 2, every so many steps, and the loss there."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    ratios, losses = [], []
    for step in range(steps):
        if step % EVERY == 0:
            hessian = curvature(model, samples, loss=loss)
            largest = top_eigenpairs(hessian, 1, tol=1e-3).values[0]
            ratios.append(rate * float(largest) / 2)
        value = loss(model(samples.inputs), samples.targets)
        if step % EVERY == 0:
            losses.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return ratios, losses


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Train with several step sizes."""
    digits = load_digits()
    x = torch.tensor(digits.data[:500] / 16, dtype=torch.float32)
    x = x - x.mean(dim=0)
    samples = gp.Samples(x, torch.eye(10)[digits.target[:500]])
    rates, seeds, steps = ([0.4], range(2), 300) if smoke else ([0.3, 0.4, 0.6], range(3), 3000)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    checks = []
    for rate in rates:
        paths = [train(rate, seed, steps, samples) for seed in seeds]
        ratios = np.array([ratio for ratio, _ in paths])
        late = np.median(ratios[:, ratios.shape[1] // 2 :], axis=1)
        checks += [
            Check(
                f"ηλ/2 in the second half, η = {rate:g}", *mean(late), 0.0 if smoke else 0.95, 1.2
            ),
            Check(f"ηλ/2 at the beginning, η = {rate:g}", *mean(ratios[:, 0]), at_most=0.9),
        ]
        at = EVERY * np.arange(ratios.shape[1])
        left.plot(at, ratios.T, color=f"C{rates.index(rate)}", lw=0.9)
        left.plot([], [], color=f"C{rates.index(rate)}", label=f"η = {rate:g}")
        right.semilogy(
            at, np.array([values for _, values in paths]).T, color=f"C{rates.index(rate)}"
        )
    left.axhline(1, color="grey", lw=0.8, ls="--")
    left.set(xlabel="step", ylabel="ηλ/2", title="sharpness over its stable limit", ylim=(0, 1.6))
    left.legend()
    right.set(xlabel="step", title="loss")
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
