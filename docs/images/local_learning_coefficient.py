"""The picture of local_learning_coefficient.md: known coefficients, chains, and their settings."""

from pathlib import Path

import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.information import learning_coefficient_grid, local_learning_coefficient


class Potential(nn.Module):
    """A loss that is a power of one parameter."""

    def __init__(self, power):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))
        self.power = power

    def forward(self, x):
        return (self.w**self.power).expand(len(x))


figure, axes = pyplot.subplots(1, 3, figsize=(13.5, 3.8))
powers, nothing = range(2, 11, 2), Samples(torch.zeros(3, 1), torch.zeros(3))
found = [
    local_learning_coefficient(
        Potential(power), nothing, loss=lambda outputs, _: outputs.mean(),
        n_beta=10.0, localization=0.0, step=0.005, chains=512, draws=300, burn_in=200,
    ).estimate
    for power in powers
]  # fmt: skip
axes[0].plot(powers, [1 / power for power in powers], color="0.6", label="1 / power")
axes[0].errorbar(
    powers, [one.value for one in found], [2 * one.stderr for one in found], fmt="o", label="found"
)
axes[0].set(xlabel="power of the only parameter", ylabel="coefficient", ylim=(0, None))
axes[0].set_title("known coefficients")
axes[0].legend()

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
data = Samples(x[:1000].float() / 16, y[:1000])
loss = nn.functional.cross_entropy
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
for _ in range(1500):
    optimizer.zero_grad()
    loss(model(data.inputs), data.targets).backward()
    optimizer.step()
found = local_learning_coefficient(model, data, loss=loss, burn_in=0, draws=400)
found.plot(axes[1])
axes[1].set_title("chains of a network, from its parameters on")
grid = learning_coefficient_grid(
    model, data, loss=loss, steps=[1e-4, 3e-4, 1e-3, 3e-3], localizations=[30.0, 100.0, 300.0],
    draws=300, burn_in=300,
)  # fmt: skip
grid.plot(axes[2])
axes[2].set(yscale="log", title="what the settings do")
axes[2].set_yticks([0.5, 1, 2, 4], labels=["0.5", "1", "2", "4"])
axes[2].minorticks_off()
axes[2].legend(title="localization", loc="center", bbox_to_anchor=(0.3, 0.36), ncols=3)
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
