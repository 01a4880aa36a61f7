"""The picture of loss_slices.md: three planes through one network that has learned digits."""

from pathlib import Path

import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe import Samples, TrajectoryRecorder
from geomprobe.information import curvature, top_eigenpairs
from geomprobe.landscape import loss_slice, trajectory_plane

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x, loss = x.float() / 16, nn.functional.cross_entropy
data = Samples(x[:500], y[:500])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
recorder = TrajectoryRecorder(model, every=5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for step in range(301):
    recorder.record(step)
    rows = torch.randint(len(x), (64,))
    optimizer.zero_grad()
    loss(model(x[rows]), y[rows]).backward()
    optimizer.step()

figure, axes = pyplot.subplots(1, 3, figsize=(13, 4))
loss_slice(model, data, loss, points=31).plot(axes[0])
pairs = top_eigenpairs(curvature(model, data, loss=loss), 2, tol=1e-3)
loss_slice(model, data, loss, pairs.vectors, extent=2.0, points=31).plot(axes[1])
axes[1].set(xlabel="sharpest eigenvector", ylabel="second")
plane = trajectory_plane(recorder.trajectory)
loss_slice(model, data, loss, plane, points=31).plot(axes[2])
axes[2].set_title(
    f"{plane.explained.value:.0%} explained; random walk {plane.random_walk.value:.0%}"
)
for ax in axes:
    ax.locator_params(nbins=5)
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
