"""The picture of effective_dimension.md: how it depends on data, inputs and training."""

from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.information import dimension_by_inputs, fisher_gram

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x, loss = x.float() / 16, nn.functional.cross_entropy
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
n = np.geomspace(25, 1e6, 100)
for steps, name in ((0, "untrained"), (200, "200 steps")):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    gram = fisher_gram(model, Samples(x[:256]), loss=loss)
    for inputs, style in ((64, ":"), (128, "--"), (256, "-")):
        part = gram.subset(np.arange(inputs))
        color = "C0" if steps == 0 else "C1"
        label = f"{name}, {inputs} inputs"
        left.loglog(n, part.effective_dimension(n), style, color=color, label=label)
    dimension_by_inputs(gram, len(x)).plot(right)
left.axvline(len(x), color="grey", lw=0.8)
left.set(xlabel="training samples n", ylabel="effective dimension")
left.legend(fontsize=8)
right.set_title(f"at n = {len(x)}; the upper one is untrained", fontsize=10)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
