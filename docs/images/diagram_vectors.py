"""Draw diagram_vectors.png: a diagram as landscape, silhouette, Betti curve and image."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from geomprobe.topology import (
    betti_curve,
    landscape,
    persistence_image,
    rips_persistence,
    silhouette,
)

rng = np.random.default_rng(0)
turn = rng.uniform(0, 2 * np.pi, 150)
points = np.stack([np.cos(turn), np.sin(turn)], axis=1) + rng.normal(0, 0.1, (150, 2))
diagram = rips_persistence(points)[1]
grid = np.linspace(0, 1.8, 200)

figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
axes[0].plot([0, 1.8], [0, 1.8], color="0.7", lw=0.8)
axes[0].scatter(*diagram.T, s=8)
axes[0].set(title="loops of a noisy circle", xlabel="birth", ylabel="death", aspect="equal")
for number, layer in enumerate(landscape(diagram, grid, 3), start=1):
    axes[1].plot(grid, layer, lw=1, label=f"layer {number}")
axes[1].plot(grid, silhouette(diagram, grid, 1.0), "k--", lw=1, label="silhouette")
axes[1].set(title="landscape", xlabel="scale")
axes[1].legend(fontsize=7)
axes[2].step(grid, betti_curve(diagram, grid), lw=1, where="post")
axes[2].set(title="Betti curve", xlabel="scale")
births, lengths = np.linspace(0, 1, 31), np.linspace(0, 1.8, 31)
image = persistence_image(diagram, births, lengths, sigma=0.08)
axes[3].pcolormesh(births, lengths, image.T)
axes[3].set(title="image", xlabel="birth", ylabel="length")
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
