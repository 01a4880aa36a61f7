"""The picture of training_energy.md: two momenta on digits, and what friction takes."""

from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

import geomprobe as gp
from geomprobe.dynamics import training_energy

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x = x.float() / 16
figure, panels = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
for axes, momentum in zip(panels, (0.9, 0.99), strict=False):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=momentum)
    recorder = gp.TrajectoryRecorder(model, optimizer=optimizer)
    for step in range(400):
        loss = nn.functional.cross_entropy(model(x), y)
        recorder.record(step, loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    energy = training_energy(recorder.trajectory, momentum=momentum)
    energy.plot(axes).set_title(f"momentum {momentum}")
    lost = energy.total[0] - energy.total[1:]
    label = f"momentum {momentum}"
    panels[2].plot(energy.steps[1:], lost / np.cumsum(energy.friction[:-1]), label=label)
panels[2].axhline(1, color="grey", lw=0.8)
panels[2].set(xlabel="step", title="energy lost, over what friction takes", ylim=(0.5, 1.5))
panels[2].legend()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
