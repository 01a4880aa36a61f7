"""Test error rises and falls with width, and effective dimension falls with it.

**Claim.** With noisy labels the test error first falls with the number of features, rises until
they are just enough to fit all labels, and falls again beyond. Belkin, M., Hsu, D., Ma, S. and
Mandal, S. (2019), *Reconciling modern machine-learning practice and the classical bias-variance
trade-off*, PNAS 116. Beyond, where wider networks fit as well and generalize better, their
effective dimension falls with the test error, though the number of their parameters grows. Maddox,
W. J., Benton, G. and Wilson, A. G. (2020), *Rethinking parameter counting in deep models*,
arXiv:2003.02139.

**Here.** 300 digits of scikit-learn, the labels of a fifth of them wrong, and all others to
test on. First random ReLU features, with the least squares of smallest norm on one-hot labels: as
many features as samples are just enough. What decides: the test loss there, as a logarithm, over
that of 2,000 features and over the least before; and where the largest is. Second, networks of one
hidden layer of 2 to 128 units, by Adam on the cross-entropy of all 300 samples: their effective
dimension is the sum of λ / (λ + 1/300) (`geomprobe.information.effective_parameters`) over
the spectrum of the Fisher information on 100 of them (`geomprobe.information.fisher_gram`). What
decides: the rank correlations with width of test error and of effective dimension, from the first
width on at which less than 1 % of the labels is not fitted, and the effective dimension there over
that at the narrowest and at the widest. Six seeds of features, five of networks.

**What differs.** Belkin et al. take Fourier features, and 10,000 images of MNIST. Maddox et
al. take convolutional networks on CIFAR-100 and the Hessian, which near a minimum is the Fisher
information. Whether the error of the networks, too, rises before it falls is drawn, and decides
nothing, since there are few widths below the threshold. It did not rise.

**What it does not show.** That effective dimension explains the fall. Wide networks fit with a
smaller loss, and where the loss is small so is the Fisher information: had they been trained less
far, it would be larger.
"""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, mean, reproduce, train_together
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import Tensor, nn

import geomprobe as gp
from geomprobe.information import effective_parameters, fisher_gram

N = 300


def split(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return digits to fit, a fifth of whose labels is wrong, and others to test on."""
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    torch.manual_seed(seed)
    order = torch.randperm(len(x))
    fitted, unseen = order[:N], order[N:]
    noise = torch.where(torch.rand(N) < 0.2, torch.randint(1, 10, (N,)), 0)
    return x[fitted], (y[fitted] + noise) % 10, x[unseen], y[unseen]


def of_features(counts: list[int], seed: int) -> list[float]:
    """Return the test losses of least squares on growing numbers of random features."""
    x, y, x_test, y_test = split(seed)
    directions = torch.randn(64, max(counts), dtype=torch.float64)
    one_hot = torch.eye(10, dtype=torch.float64)
    losses = []
    for count in counts:
        features, unseen = (
            (inputs.double() @ directions[:, :count]).relu() / math.sqrt(count)
            for inputs in (x, x_test)
        )
        weights = torch.linalg.pinv(features) @ one_hot[y]
        losses.append(float((unseen @ weights - one_hot[y_test]).square().sum(dim=1).mean()))
    return losses


def of_networks(width: int, seeds: int, steps: int) -> list[list[float]]:
    """Return training error, test error and effective dimension of a network for each seed."""
    data = [split(seed) for seed in range(seeds)]
    models = [
        nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)) for _ in range(seeds)
    ]
    x, y = (torch.stack([one[k] for one in data]) for k in range(2))
    train_together(models, x, y, steps=steps, lr=0.01)
    found = []
    for model, (x, y, x_test, y_test) in zip(models, data, strict=True):
        with torch.no_grad():
            errors = [
                float((model(inputs).argmax(dim=1) != classes).float().mean())
                for inputs, classes in ((x, y), (x_test, y_test))
            ]
        gram = fisher_gram(model, gp.Samples(x[:100]), loss=nn.CrossEntropyLoss())
        found.append([*errors, effective_parameters(gram.spectrum(), 1 / N)])
    return found


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Fit features and networks of growing width."""
    counts = [10, 30, 60, 100, 150, 200, 250, 280, 300, 320, 350, 400, 600, 1000, 2000]
    widths = [2, 8, 64] if smoke else [2, 4, 8, 12, 16, 32, 64, 128]
    draws, seeds, steps = (2, 2, 300) if smoke else (6, 5, 2000)
    losses = np.array([of_features(counts, seed) for seed in range(draws)])
    enough = counts.index(N)
    valley = int(losses.mean(axis=0)[:enough].argmin())
    found = np.array([of_networks(width, seeds, steps) for width in widths]).transpose(1, 0, 2)
    fits = found[:, :, 0].mean(axis=0) < (1.1 if smoke else 0.01)
    first = int(fits.argmax())
    beyond = [
        [spearmanr(widths[first:], row[first:]).statistic for row in found[:, :, k]] for k in (1, 2)
    ]
    dimension = np.log(found[:, :, 2])
    checks = [
        Check(
            "features: log ratio of test losses, 300 over 2,000",
            *mean(np.log(losses[:, enough] / losses[:, -1])),
            at_least=math.log(2),
        ),
        Check(
            "features: log ratio of test losses, 300 over the least before",
            *mean(np.log(losses[:, enough] / losses[:, valley])),
            at_least=math.log(2),
        ),
        Check(
            "features: how many, where the test loss is largest",
            counts[int(losses.mean(axis=0).argmax())],
            at_least=280,
            at_most=320,
        ),
        Check(
            "networks: share of labels not fitted by the widest",
            found[:, -1, 0].mean(),
            at_most=1.0 if smoke else 0.01,
        ),
        Check(
            "networks that fit: rank correlation of test error with width",
            *mean(beyond[0]),
            at_most=-0.5,
        ),
        Check(
            "networks that fit: rank correlation of effective dimension with width",
            *mean(beyond[1]),
            at_most=-0.5,
        ),
        Check(
            "effective dimension: log ratio, narrowest that fits over narrowest",
            *mean(dimension[:, first] - dimension[:, 0]),
            at_least=math.log(1.2),
        ),
        Check(
            "effective dimension: log ratio, narrowest that fits over widest",
            *mean(dimension[:, first] - dimension[:, -1]),
            at_least=math.log(1.2),
        ),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4))
    panels = (
        (counts, losses, N, "random features: test loss", "log"),
        (widths, found[:, :, 1], widths[first], "networks: test error", "linear"),
        (widths, found[:, :, 2], widths[first], "networks: effective dimension", "linear"),
    )
    for ax, (at, values, threshold, title, scale) in zip(axes, panels, strict=True):
        ax.plot(at, values.T, color="C0", lw=0.5)
        ax.plot(at, values.mean(axis=0), color="C0", marker="o", ms=4)
        ax.axvline(threshold, color="grey", ls="--", lw=0.8)
        xlabel = "number of features" if at is counts else "width"
        ax.set(title=title, xlabel=xlabel, xscale="log", yscale=scale)
    axes[1].plot(widths, found[:, :, 0].mean(axis=0), color="C1", marker=".", label="training")
    axes[1].legend()
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
