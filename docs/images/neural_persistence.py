"""Draw neural_persistence.png: each layer of a network in training, beside its shuffled weights."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import geomprobe as gp
from geomprobe.topology.analyzers import NeuralPersistence

images, digits = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(digits)
torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)
)
optimizer = torch.optim.Adam(model.parameters(), 2e-3)
epochs, found = list(range(0, 41, 4)), []
for epoch in range(epochs[-1] + 1):
    if epoch in epochs:
        analyzer = NeuralPersistence(shuffles=20)
        found.append({one.subject: one for one in gp.analyze(gp.Evidence(model=model), analyzer)})
    for rows in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()

figure, axes = plt.subplots(1, 3, figsize=(8, 2.6), sharey=True)
for ax, (name, title) in zip(
    axes, (("0", "first layer"), ("2", "second"), ("4", "last")), strict=True
):
    values = [one[name].scalars["neural_persistence"].value for one in found]
    shuffled = [one[name].arrays["shuffled"] for one in found]
    ax.plot(epochs, values, marker="o", ms=3, label="as trained")
    ax.fill_between(
        epochs,
        [one.min() for one in shuffled],
        [one.max() for one in shuffled],
        color="tab:orange",
        alpha=0.5,
        label="shuffled, least to most",
    )
    ax.set(title=title, xlabel="epoch")
axes[0].set_ylabel("neural persistence")
axes[0].legend(fontsize=8)
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
