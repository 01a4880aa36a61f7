"""Draw activation_topology.png: Betti numbers by layer of a network that separates nine disks."""

from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import geomprobe as gp
from geomprobe.topology.analyzers import LayerTopology


def nine_disks(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a square with nine disks in it, as data set D-I of Naitzat et al. (2020)."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.5, 1.5, (n, 2))
    radii = np.linalg.norm(points - np.round(points), axis=1)
    kept = (radii < 0.28) | (radii > 0.36)
    return points[kept], (radii < 0.28)[kept].astype(int)


def trained(points: np.ndarray, labels: np.ndarray) -> nn.Sequential:
    torch.manual_seed(1)
    widths = [2] + [25] * 6 + [2]
    parts = []
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        parts += [nn.Linear(n_in, n_out), nn.ReLU()] if i < 6 else [nn.Linear(n_in, n_out)]
    model = nn.Sequential(*parts)
    x, y = torch.tensor(points, dtype=torch.float32), torch.tensor(labels)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(400):
        for rows in torch.randperm(len(x)).split(512):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        if epoch > 150 and (model(x).argmax(1) == y).all():
            break
    print(f"{epoch + 1} epochs, accuracy {(model(x).argmax(1) == y).float().mean():.4f}")
    return model


points, labels = nine_disks(6000)
model = trained(points, labels)
clouds, activations = [gp.PointCloud(points, labels=labels, layer="input")], torch.tensor(points)
with torch.no_grad():
    activations = activations.float()
    for part in model:
        activations = part(activations)
        if not isinstance(part, nn.Linear) or part is model[-1]:
            name = "output" if part is model[-1] else f"{len(clouds)}"
            clouds.append(gp.PointCloud(activations.numpy(), labels=labels, layer=name))
analyzer = LayerTopology(max_points=1200, replicates=2)
findings = list(gp.analyze(gp.Evidence(gp.CloudSet(clouds)), analyzer))[:-1]

figure, (left, right) = plt.subplots(
    1, 2, figsize=(8, 3.4), width_ratios=(1, 1.6), layout="constrained"
)
left.scatter(*points[::3].T, c=np.where(labels[::3], "tab:red", "tab:blue"), s=1)
left.set(title="two classes", aspect="equal", xticks=[], yticks=[])
for dim, style in enumerate(("-", "--")):
    for k, (color, name) in enumerate((("tab:blue", "square"), ("tab:red", "disks"))):
        numbers = [finding.arrays[f"betti_{dim}_of_class"][k] for finding in findings]
        right.plot(numbers, style, color=color, marker="o", ms=3, label=f"$\\beta_{dim}$ of {name}")
right.set(xlabel="layer", xticks=range(len(findings)), ylabel="Betti number")
right.set_xticklabels([finding.subject for finding in findings])
right.legend(fontsize=8)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=90)
