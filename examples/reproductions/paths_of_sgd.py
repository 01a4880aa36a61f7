"""Late in training SGD moves most where the loss is steep, and slower than a random walk.

**Claim.** Late in training, at a constant learning rate, the weights under SGD fluctuate most along
the directions in which the loss is most curved: the inverse of what a thermal equilibrium would do.
Feng, Y. and Tu, Y. (2021), *The inverse variance-flatness relation in stochastic gradient descent
is critical for finding flat minima*, PNAS 118. The displacement grows faster with the lag than that
of a random walk early in training, and slower late. Chen, G., Qu, C. K. and Gong, P. (2022),
*Anomalous diffusion dynamics of learning in deep neural networks*, Neural Networks 149. If so, its
effective dimensions are fewer than those of a random walk early, and more late, as in a quadratic
well. Antognini, J. and Sohl-Dickstein, J. (2018), *PCA of high dimensional random walks with
comparison to neural network training*, NeurIPS.

**Here.** A ReLU network of two hidden layers of 32 units on 1,000 digits of scikit-learn, SGD with
batches of 50 and a learning rate of 0.1; the exact path of all 3,466 weights, of the first 200
steps and of 1,000 after 5,000. `geomprobe.dynamics.path_statistics` gives the diffusion exponents,
1/2 for a random walk, and the participation ratios, 5/2 for one; the curvature along each of the 30
leading principal components of the late path is that of the exact Hessian
(`geomprobe.information.curvature`). What decides: the rank correlation of variance and curvature
over these components, both exponents, and both logarithms of the participation ratio over that of a
random walk of as many points, five seeds.

**What differs.** Feng and Tu measure flatness by the width at which the loss has grown by a factor;
here it is the second derivative, whose rank is that of the inverse width where the loss is a
parabola. Networks and data are smaller.

**What came out.** All but the last number, which was asked for after the others had been found: the
late path, too, has fewer effective dimensions than a random walk, though it is slower than one.

**What it does not show.** That SGD finds flat minima because of this.
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
from geomprobe.dynamics import path_statistics
from geomprobe.information import curvature


def advance(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> gp.Trajectory:
    """Take steps of SGD, and return their exact path."""
    recorder = gp.TrajectoryRecorder(model, points=steps + 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        recorder.record(step)
        rows = torch.randint(len(x), (50,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    recorder.record(steps)
    return recorder.trajectory


def directions(path: gp.Trajectory, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the leading principal components of a path, (count, p), and their variances."""
    points = path.points.astype(np.float64)
    _, singular, rows = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    return rows[:count], singular[:count] ** 2 / len(points)


def measure(smoke: bool) -> tuple[list[Check], Any]:
    """Follow SGD early and late."""
    digits = load_digits()
    x = torch.tensor(digits.data[:1000] / 16, dtype=torch.float32)
    y = torch.tensor(digits.target[:1000])
    seeds, early, between, late = (range(2), 70, 10, 100) if smoke else (range(5), 200, 4800, 1000)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    exponents, dimensions, correlations = [], [], []
    for seed in seeds:
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
        )
        first = path_statistics(advance(model, x, y, early))
        advance(model, x, y, between)
        path = advance(model, x, y, late)
        last = path_statistics(path)
        exponents.append([one.scalars["diffusion_exponent"].value for one in (first, last)])
        dimensions.append(
            [
                one.participation_ratio.value / one.walk["participation_ratio"]
                for one in (first, last)
            ]
        )
        components, variances = directions(path, 30)
        hessian = curvature(model, gp.Samples(x, y), loss=nn.functional.cross_entropy)
        columns = torch.tensor(components.T, dtype=torch.float32)
        curvatures = ((hessian @ columns) * columns).sum(dim=0).numpy()
        correlations.append(spearmanr(variances, curvatures).statistic)
        left.loglog(variances, np.abs(curvatures), "o", ms=3)
        for one, style in ((first, "--"), (last, "-")):
            if one.diffusion is not None:
                squares = one.diffusion.squares / one.diffusion.squares[0]
                right.loglog(one.diffusion.lags, squares, style, color=f"C{seed}", lw=0.9)
    left.set(xlabel="variance of a component", ylabel="curvature along it")
    lags = np.array([1.0, 100.0])
    right.loglog(lags, lags, color="grey", lw=2, alpha=0.5)
    right.set(xlabel="lag", title="mean square displacement: early (dashed), late")
    early_exponent, late_exponent = np.transpose(exponents)
    early_ratio, late_ratio = np.log(np.transpose(dimensions))
    checks = [
        Check("rank correlation of variance and curvature", *mean(correlations), at_least=0.3),
        Check("diffusion exponent, first 200 steps", *mean(early_exponent), at_least=0.5),
        Check("diffusion exponent, after 5,000 steps", *mean(late_exponent), at_most=0.5),
        Check(
            "participation, first 200 steps: log ratio to a random walk",
            *mean(early_ratio),
            at_most=0.0,
        ),
        Check(
            "participation, after 5,000 steps: log ratio to a random walk",
            *mean(late_ratio),
            at_least=0.0,
        ),
    ]
    return checks, figure


if __name__ == "__main__":
    reproduce(measure)
