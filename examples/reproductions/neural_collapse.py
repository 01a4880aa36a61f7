"""Classes collapse to the corners of a simplex when training goes on.

**Claim.** When a classifier is trained on after its last error is gone, features of each class
gather at its mean (NC1), class means and the rows of the last layer become the corners of one
simplex (NC2, NC3), and the network decides by the nearest class mean (NC4). Papyan, V., Han, X. Y.
and Donoho, D. L. (2020), *Prevalence of neural collapse during the terminal phase of deep learning
training*, PNAS 117. Test samples collapse much less: Hui, L., Belkin, M. and Nakkiran, P. (2022),
arXiv:2202.08384.

**Here.** A network of two hidden layers of 128 units with BatchNorm on 1,000 digits of
scikit-learn, SGD with momentum, a weight decay of 5e-4 and a falling step size, 2,000 epochs;
`geomprobe.representation.neural_collapse` of the features of the last layer, when the last training
error is gone and at the end, on training and on 797 test samples. What decides are ratios, end over
start, and test over training, on average over three seeds, as logarithms.

**What differs.** A small fully connected network and 8 x 8 digits; the paper trains ResNets, VGGs
and DenseNets for 350 epochs of 400 steps and more. A first run of 600 epochs, of ten steps each,
without BatchNorm ended before the weight decay had done its work, and found no collapse.

**What it does not show.** That collapse is good for generalization: test samples do without it.
"""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, mean, reproduce
from sklearn.datasets import load_digits
from torch import Tensor, nn

from geomprobe.representation import neural_collapse

NAMES = {
    "within_class": "NC1, within-class variance",
    "equinorm": "NC2, unequal norms",
    "maximal_angle": "NC2, distance from the simplex",
    "self_duality": "NC3, weights against means",
}


def numbers(body: nn.Module, head: nn.Linear, x: Tensor, y: Tensor) -> list[float]:
    """Return the four numbers, and the share of decisions that are not by the nearest mean."""
    with torch.no_grad():
        features = body(x)
    found = neural_collapse(features, y, weights=head.weight.detach(), bias=head.bias.detach())
    return [getattr(found, name).value for name in (*NAMES, "disagreement")]


def train(seed: int, epochs: int, data: list[Tensor]) -> tuple[list[int], np.ndarray, int]:
    """Train; return epochs, numbers there on training and test data, and when it fits."""
    x, y, x_test, y_test = data
    torch.manual_seed(seed)
    body = nn.Sequential()
    for fan_in in (64, 128):
        body.extend([nn.Linear(fan_in, 128), nn.BatchNorm1d(128), nn.ReLU()])
    head = nn.Linear(128, 10)
    parameters = [*body.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 3, 2 * epochs // 3])
    at, found, fits = [], [], 0
    for epoch in range(1, epochs + 1):
        body.train()
        for rows in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(body(x[rows])), y[rows]).backward()
            optimizer.step()
        schedule.step()
        body.eval()
        with torch.no_grad():
            errors = int((head(body(x)).argmax(1) != y).sum())
        if (not fits and errors == 0) or epoch % max(1, epochs // 20) == 0:
            fits = fits or (epoch if errors == 0 else 0)
            at.append(epoch)
            found.append([numbers(body, head, x, y), numbers(body, head, x_test, y_test)])
    return at, np.array(found), fits


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Train beyond the last error."""
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    data = [x[:1000], y[:1000], x[1000:], y[1000:]]
    seeds, epochs = (range(2), 20) if smoke else (range(3), 2000)
    runs = [train(seed, epochs, data) for seed in seeds]
    checks = [
        Check("seeds that did not fit their labels", sum(not fits for *_, fits in runs), at_most=0)
    ]
    for k, name in enumerate(NAMES.values()):
        ratios = [
            math.log(found[-1, 0, k] / found[at.index(fits) if fits else 0, 0, k])
            for at, found, fits in runs
        ]
        wanted = 1.0 if smoke else math.log(0.5)
        checks.append(
            Check(f"{name}: log ratio, end over first fit", *mean(ratios), at_most=wanted)
        )
    apart = [math.log(found[-1, 1, 0] / found[-1, 0, 0]) for _, found, _ in runs]
    checks.append(Check("NC1: log ratio, test over training", *mean(apart), at_least=math.log(2)))
    other = [found[-1, 0, -1] for _, found, _ in runs]
    checks.append(Check("NC4: decisions not by the nearest mean", *mean(other), at_most=0.01))
    figure, axes = plt.subplots(1, 4, figsize=(12, 3))
    for k, (ax, name) in enumerate(zip(axes, NAMES.values(), strict=True)):
        for at, found, fits in runs:
            ax.semilogx(at, found[:, 0, k], color="C0", lw=0.9)
            ax.semilogx(at, found[:, 1, k], color="C1", lw=0.9)
            if fits:
                ax.axvline(fits, color="grey", lw=0.5)
        ax.set(title=name, xlabel="epoch", ylim=(0, None))
        ax.title.set_fontsize(9)
    axes[0].plot([], [], color="C0", label="training")
    axes[0].plot([], [], color="C1", label="test")
    axes[0].legend()
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
