"""The picture of critical_points.md: eigenvalues at a minimum, at a saddle and at fitted data."""

from pathlib import Path

import torch
from matplotlib import pyplot
from torch import nn

from geomprobe.algebraic import classify_critical_point
from geomprobe.evidence import Samples

loss = nn.functional.mse_loss


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 4, bias=False)).double()


def trained(model, data):
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3000, tolerance_change=0)

    def closure():
        optimizer.zero_grad()
        value = loss(model(data.inputs), data.targets)
        value.backward()
        return value

    optimizer.step(closure)
    return model


generator = torch.Generator().manual_seed(0)
x, y = (torch.randn(40, 4, generator=generator, dtype=torch.float64) for _ in range(2))
many, few = Samples(x, y), Samples(x[:6], y[:6, :1])
saddle = linear()
for parameter in saddle.parameters():
    nn.init.zeros_(parameter)
torch.manual_seed(0)
wide = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
cases = {
    "linear network, trained": (trained(linear(), many), many),
    "linear network, all weights 0": (saddle, many),
    "six data, 49 parameters": (trained(wide, few), few),
}
figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.6))
for ax, (title, (model, data)) in zip(axes, cases.items(), strict=True):
    found = classify_critical_point(model, data, loss, newton_steps=5)
    found.plot(ax)
    ax.set_title(f"{title}:\n{found.kind}, {found.symmetric} flat by symmetry")
for ax in axes[1:]:
    ax.set_ylabel("")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
