"""Draw representation_similarity.png: layers of two networks trained from different seeds."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import itertools

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from geomprobe import Probe
from geomprobe.representation import cka, cka_matrix

digits = load_digits()
x = torch.tensor(digits.data / 16, dtype=torch.float32)
y = torch.tensor(digits.target)


def layers(seed: int) -> list:
    """Train a small network and return its layers' activations on the same 200 samples."""
    torch.manual_seed(seed)
    sizes = (64, 256, 256, 256, 10)
    parts = [part for i, o in itertools.pairwise(sizes) for part in (nn.Linear(i, o), nn.ReLU())]
    model = nn.Sequential(*parts[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(300):
        rows = torch.randint(len(x), (64,))
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    names = [str(i) for i in range(len(model))]
    with Probe(model.eval(), names, points=200) as probe, torch.no_grad():
        model(x[:200])
    return [probe.clouds[name].points for name in names]


first, second = layers(0), layers(1)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
shown = axes[0].imshow(cka_matrix(first, second), vmin=0, vmax=1, origin="lower")
axes[0].set(title="debiased CKA", xlabel="layer, seed 1", ylabel="layer, seed 0")
figure.colorbar(shown, ax=axes[0])

rng = np.random.default_rng(0)
sizes = (20, 50, 100, 200, 500, 1000)
pairs = [rng.normal(size=(2, n, 100)) for n in sizes]
for debiased in (False, True):
    found = [cka(X, Y, debiased=debiased) for X, Y in pairs]
    values, errors = zip(*((one.value, one.stderr) for one in found), strict=True)
    label = "debiased" if debiased else "plain"
    axes[1].errorbar(sizes, values, errors, marker="o", ms=3, label=label)
axes[1].set(title="CKA of independent clouds", xscale="log", xlabel="samples of 100 features")
axes[1].legend()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100, bbox_inches="tight")
