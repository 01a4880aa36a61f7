"""The picture of width_sweep.md: perceptrons of growing width on forty noisy points."""

from pathlib import Path

import torch
from torch import nn

from geomprobe import Samples
from geomprobe.landscape import width_sweep

generator = torch.Generator().manual_seed(0)
x = torch.randn(240, 4, generator=generator)
y = torch.sin(2 * x[:, :1]) + 0.3 * torch.randn(240, 1, generator=generator)
loss = nn.functional.mse_loss


def build(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))


def fit(model: nn.Module, data: Samples) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(1000):
        optimizer.zero_grad()
        loss(model(data.inputs), data.targets).backward()
        optimizer.step()


widths = [1, 2, 4, 6, 8, 12, 24]
train, test = Samples(x[:40], y[:40]), Samples(x[40:], y[40:])
sweep = width_sweep(build, widths, train, test, loss, fit, seeds=(0, 1))
print(sweep.threshold)
axes = sweep.plot()
axes[0].figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
