"""The picture of curvature.md: the spectrum of a Hessian before and after training."""

from pathlib import Path

import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.information import curvature, spectral_density

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
data = Samples(x[:500].float() / 16, y[:500])
loss = nn.functional.cross_entropy
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), sharey=True)
for ax, steps in zip(axes, (0, 60), strict=True):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(data.inputs), data.targets).backward()
        optimizer.step()
    for kind, style in (("hessian", "-"), ("ggn", "--")):
        density = spectral_density(curvature(model, data, loss=loss, kind=kind), steps=80)
        density.plot(ax)
        ax.lines[-1].set(linestyle=style, label=kind)
    ax.set_title(f"after {steps} steps")
    ax.legend()
axes[1].set_ylabel("")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
