"""The picture of fisher_information.md: an exact spectrum, and what random columns show of it."""

from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.information import fisher_gram, fisher_sketch

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x, loss = x.float() / 16, nn.functional.cross_entropy
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
for _ in range(60):
    optimizer.zero_grad()
    loss(model(x), y).backward()
    optimizer.step()

data = Samples(x[:200])
exact = fisher_gram(model, data, loss=loss).spectrum()
figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), sharex=True, sharey=True)
for ax, columns in zip(axes, (256, 2048), strict=True):
    ax.loglog(np.arange(1, 1001), exact[:1000], color="black", label="exact")
    fisher_sketch(model, data, loss=loss, columns=columns).plot(ax)
    ax.set(title=f"{columns} columns", ylim=(1e-4, None))
    ax.legend()
axes[1].set_ylabel("")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
