"""Effective dimension grows with the share of random labels.

**Claim.** Networks trained to fit labels of which a part is random generalize the worse, the larger
that part, and their local effective dimension, as a capacity that depends on where training ended,
grows with it. Abbas, A., Sutter, D., Figalli, A. and Woerner, S. (2021), *Effective dimension of
machine learning models*, arXiv:2112.04807, section 4.

**Here.** Networks of two hidden layers of 32 units, trained to fit 500 digits of scikit-learn of
whose labels 0 to 100 % were drawn at random; the exact spectrum of the true Fisher information on
200 of them (`geomprobe.information.fisher_gram`), its trace brought to the number of parameters,
and the local effective dimension at n = 500 and γ = 1. What decides is the rank correlation of
effective dimension with the share of random labels, over five seeds a share, within each seed; and
the gap between test and training error, which must grow for the claim to say anything.

**What differs.** The paper takes a larger network, 10^5 parameters, and all of the data, by an
approximation of the Fisher information.

**What it does not show.** That effective dimension predicts generalization where labels are as they
are: over learning rates, widths and batch sizes it may well go the other way; see the score cards.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reproduction import Check, mean, reproduce
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import Tensor, nn

import geomprobe as gp
from geomprobe.information import effective_dimension, fisher_gram


def train(x: Tensor, y: Tensor, epochs: int) -> tuple[nn.Sequential, float]:
    """Train to fit labels; return the network and its training error."""
    model = nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            outputs = model(x)
            if float(nn.functional.cross_entropy(outputs, y)) < 0.01:
                break
    return model, float((outputs.argmax(1) != y).float().mean())


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Train on labels of which a part is random."""
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    shares = [0.0, 0.5, 1.0] if smoke else [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    seeds, epochs, inputs = (range(2), 2, 20) if smoke else (range(5), 1500, 200)
    dimensions, gaps, errors = (np.zeros((len(seeds), len(shares))) for _ in range(3))
    for seed in seeds:
        for k, share in enumerate(shares):
            torch.manual_seed(seed)
            order = torch.randperm(len(x))
            fitted, unseen = order[:500], order[500:]
            labels = torch.where(torch.rand(500) < share, torch.randint(10, (500,)), y[fitted])
            model, errors[seed, k] = train(x[fitted], labels, epochs)
            gram = fisher_gram(model, gp.Samples(x[fitted[:inputs]]), loss=nn.CrossEntropyLoss())
            dimensions[seed, k] = effective_dimension(
                gram.spectrum(), 500, n_parameters=gram.n_parameters
            )
            with torch.no_grad():
                wrong = float((model(x[unseen]).argmax(1) != y[unseen]).float().mean())
            gaps[seed, k] = wrong - errors[seed, k]
    correlations = [spearmanr(shares, row).statistic for row in dimensions]
    checks = [
        Check("largest training error", errors.max(), at_most=1.0 if smoke else 0.02),
        Check(
            "rank correlation of the gap with the share",
            *mean([spearmanr(shares, row).statistic for row in gaps]),
            at_least=0.8,
        ),
        Check("rank correlation of effective dimension with it", *mean(correlations), at_least=0.3),
    ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    for ax, values, name in ((left, dimensions, "local effective dimension"), (right, gaps, "gap")):
        ax.plot(shares, values.T, color="C0", lw=0.6)
        ax.plot(shares, values.mean(axis=0), color="C0", marker="o")
        ax.set(xlabel="share of random labels", title=name)
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
