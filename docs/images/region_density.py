"""The picture of region_density.md: local complexity, moves and distances as digits are learned."""

import copy
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.tropical import boundary_distance, local_complexity, region_crossings

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x = x.float() / 16
data = Samples(x[:200])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
steps = [0, 1, 3, 10, 30, 100, 300, 1000]
figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 3.6))
density, rates, done = [], [], 0
before = copy.deepcopy(model)
for step in steps:
    for _ in range(step - done):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    density.append([one.value for one in local_complexity(model, data).by_bend().values()])
    if step:
        moved = region_crossings(before, model, data).crossings
        rates.append(moved.value / (step - done))
    if step in (0, 100, 1000):
        found = boundary_distance(model, data)
        share = np.arange(1, 201) / 200
        (line,) = right.plot(np.sort(found.distances), share, label=f"{step} steps")
        right.plot(np.sort(found.certified), share, "--", color=line.get_color())
    before, done = copy.deepcopy(model), step
for layer, values in enumerate(np.transpose(density), start=1):
    left.plot(np.arange(len(steps)), values, marker="o", label=f"layer {layer}")
left.set_xticks(np.arange(len(steps)), steps)
left.set(xlabel="steps", ylabel="units that bend nearby", title="local complexity")
left.legend()
middle.plot(np.arange(1, len(steps)), rates, marker="o")
middle.set_xticks(np.arange(1, len(steps)), steps[1:])
middle.set(xlabel="steps", yscale="log", ylabel="units changed a step", title="crossings")
right.set(xscale="log", xlabel="distance", ylabel="share of inputs")
right.set_title("to the nearest wall; dashed: certified")
right.legend()
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
