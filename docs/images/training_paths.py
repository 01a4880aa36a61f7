"""The picture of training_paths.md: the paths of three optimizers beside a random walk."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from geomprobe import TrajectoryRecorder
from geomprobe.dynamics import path_statistics, walk_variances

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x = x.float() / 16
optimizers = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.95),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for name, make in optimizers.items():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = make(model.parameters())
    recorder = TrajectoryRecorder(model)
    for step in range(1000):
        recorder.record(step)
        batch = torch.randint(len(x), (32,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    found = path_statistics(recorder.trajectory)
    shares = found.explained_variance[:10]
    left.semilogy(np.arange(1, 11), shares, "o-", ms=3, label=name)
    exponent = found.diffusion.exponent
    label = f"{name}: {exponent.value:.2f} ± {exponent.stderr:.2f}"
    right.loglog(found.diffusion.lags, np.sqrt(found.diffusion.squares), "o-", ms=3, label=label)
left.semilogy(np.arange(1, 11), walk_variances(1000, 10), "k--", label="random walk")
left.set(xlabel="principal component", ylabel="share of variance", title="explained variance")
left.legend(fontsize=8)
lags = np.array([1, 100])
right.loglog(lags, 0.1 * np.sqrt(lags), "k--", label="random walk: 1/2")
right.set(xlabel="steps apart", ylabel="root mean square distance", title="diffusion exponent")
right.legend(fontsize=8)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
