"""The picture of functional_dimension.md: singular values of Jacobians of three networks."""

from pathlib import Path

import torch
from matplotlib import pyplot
from torch import nn

from geomprobe.algebraic import functional_dimension
from geomprobe.evidence import Samples


def network(activation):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), activation, nn.Linear(8, 3))


data = Samples(torch.randn(400, 4, generator=torch.Generator().manual_seed(1)))
equal = network(nn.Tanh())
for parameter in equal[0].parameters():
    parameter.data[1:4] = parameter.data[:1]
models = {
    "tanh": network(nn.Tanh()),
    "ReLU: one scaling a hidden unit": network(nn.ReLU()),
    "tanh, four units equal": equal,
}
figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4), sharey=True)
for ax, (title, model) in zip(axes, models.items(), strict=True):
    found = functional_dimension(model, data)
    found.plot(ax)
    ax.set_title(f"{title}\n{found.rank} of {found.n_parameters} parameters")
for ax in axes[1:]:
    ax.set_ylabel("")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
