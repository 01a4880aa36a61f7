"""The picture of tangent_kernel.md: a kernel that learns, and one that is lazy."""

from pathlib import Path

import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.information import ntk

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x, y = x.float() / 16, y
order = torch.argsort(y[:100], stable=True)
probe, labels = Samples(x[:100][order]), y[:100][order]

figure, axes = pyplot.subplots(1, 3, figsize=(13, 3.6))
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
initial = ntk(model, probe)
initial.plot(axes[0])
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
alignment, distance, steps = [], [], list(range(0, 201, 20))
for step in range(201):
    if step in steps:
        kernel = ntk(model, probe)
        alignment.append(kernel.alignment(labels).value)
        distance.append(kernel.distance(initial))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x[200:]), y[200:]).backward()
    optimizer.step()
kernel.plot(axes[1])
axes[0].set_title("at initialisation")
axes[1].set_title("after 200 steps")
axes[2].plot(steps, alignment, label="alignment with the labels")
axes[2].plot(steps, distance, label="distance from the initial kernel")
axes[2].set(xlabel="step", ylim=(0, None))
axes[2].legend()
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
