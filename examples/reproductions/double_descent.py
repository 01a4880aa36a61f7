"""Test error rises and falls with width, and what effective dimension does there.

**Claim.** With noisy labels the test error of networks first falls with width, rises until they are
just large enough to fit all labels, and falls again beyond: the peak is where there are about as
many parameters as samples times outputs. Belkin, M., Hsu, D., Ma, S. and Mandal, S. (2019),
*Reconciling modern machine-learning practice and the classical bias-variance trade-off*, PNAS 116.
Beyond the peak, where wider networks fit equally well and generalize better, their effective
dimension falls too. Maddox, W. J., Benton, G. and Wilson, A. G. (2020), *Rethinking parameter
counting in deep models*, arXiv:2003.02139.

**Here.** One hidden layer of 2 to 512 ReLU units with small random weights, the squared error to
one-hot labels of 300 digits of scikit-learn, a fifth of them wrong; full-batch Adam with a falling
step size, so that wide networks fit; five seeds a width. 3,000 labels meet as many parameters at
width 40. What decides: the test loss at the width where it is largest, among those of 8 and more,
over that of the widest network, and over that of the narrower one where it is least; where that
peak lies; and the rank correlation of effective dimension with width from the peak on: the
eigenvalues of the Gauss-Newton matrix of the mean loss on 60 inputs
(`geomprobe.information.fisher_gram` with a Gaussian likelihood) over themselves plus z = 0.01
(`effective_parameters`).

**What differs.** Belkin et al. train narrow networks to wide ones in turn, on more images. Maddox
et al. take convolutional networks of growing width, the cross-entropy and its Hessian.

**What it does not show.** How the peak moves with regularisation and with early stopping, which
remove it; nor that effective dimension explains the fall, since both may follow width.
"""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, mean, reproduce
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import Tensor, nn

import geomprobe as gp
from geomprobe.information import Gaussian, effective_parameters, fisher_gram

Z = 0.01


def train(width: int, x: Tensor, targets: Tensor, steps: int) -> nn.Sequential:
    """Return a network trained on the squared error."""
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    for layer in (model[0], model[2]):
        nn.init.normal_(layer.weight, std=0.1)
        nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - targets).square().mean().backward()
        optimizer.step()
        schedule.step()
    return model


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Train networks of growing width on noisy labels."""
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    widths = [2, 8, 16] if smoke else [2, 4, 8, 16, 24, 32, 40, 48, 64, 96, 128, 256, 512]
    seeds, steps = (range(2), 20) if smoke else (range(5), 8000)
    found = np.zeros((len(seeds), len(widths), 3))
    for seed in seeds:
        for k, width in enumerate(widths):
            torch.manual_seed(seed)
            order = torch.randperm(len(x))
            fitted, unseen = order[:300], order[300:]
            wrong = torch.rand(300) < 0.2
            labels = torch.where(wrong, (y[fitted] + torch.randint(1, 10, (300,))) % 10, y[fitted])
            targets = torch.eye(10)[labels]
            model = train(width, x[fitted], targets, steps)
            gram = fisher_gram(model, gp.Samples(x[fitted[:60]]), likelihood=Gaussian())
            with torch.no_grad():
                found[seed, k] = (
                    (model(x[fitted]) - targets).square().mean(),
                    (model(x[unseen]) - torch.eye(10)[y[unseen]]).square().mean(),
                    effective_parameters(gram.spectrum(), Z),
                )
    loss = found[:, :, 1]
    peak = (
        1 + int(loss.mean(axis=0)[1:].argmax())
        if smoke
        else 2 + int(loss.mean(axis=0)[2:].argmax())
    )
    valley = int(loss.mean(axis=0)[:peak].argmin())
    falls = (
        [spearmanr(widths[peak:], row[peak:]).statistic for row in found[:, :, 2]]
        if peak < len(widths) - 1
        else [1.0, 1.0]
    )
    checks = [
        Check(
            "log ratio, test loss at the peak over the widest",
            *mean(np.log(loss[:, peak] / loss[:, -1])),
            at_least=math.log(1.2),
        ),
        Check(
            "log ratio, at the peak over the valley before",
            *mean(np.log(loss[:, peak] / loss[:, valley])),
            at_least=math.log(1.2),
        ),
        Check("width of the peak", widths[peak], at_least=2.0 if smoke else 16, at_most=96),
        Check(
            "rank correlation of effective dimension with width beyond", *mean(falls), at_most=-0.3
        ),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4))
    titles = ("training loss", "test loss", "effective dimension")
    for k, (ax, title) in enumerate(zip(axes, titles, strict=True)):
        ax.loglog(widths, found[:, :, k].T, color="C0", lw=0.5)
        ax.loglog(widths, found[:, :, k].mean(axis=0), color="C0", marker="o")
        ax.axvline(40, color="grey", ls="--", lw=0.8)
        ax.set(title=title, xlabel="width")
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
