"""Draw persistent_homology.png: points, their complexes at two scales, and their diagram."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection, PolyCollection

from geomprobe.topology import euclidean_distances, rips_persistence

rng = np.random.default_rng(3)
angles = 2 * np.pi * (np.arange(24) + rng.uniform(-0.3, 0.3, 24)) / 24
points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.85, 1.15, (24, 1))
points = np.concatenate([points, [[2.2, 0.2], [2.5, -0.1], [2.4, 0.5]]])
distances = euclidean_distances(points)

figure, axes = plt.subplots(
    1, 3, figsize=(9, 2.7), width_ratios=(1.6, 1.6, 1.1), layout="constrained"
)
for ax, scale in zip(axes, (0.5, 1.2), strict=False):
    near = distances <= scale
    edges = np.argwhere(np.triu(near, 1))
    triangles = [
        (i, j, k) for i, j in edges for k in range(j + 1, len(points)) if near[i, k] and near[j, k]
    ]
    ax.add_collection(PolyCollection(points[triangles], color="C0", alpha=0.08, lw=0))
    ax.add_collection(LineCollection(points[edges], color="C0", lw=0.6))
    ax.scatter(*points.T, s=8, color="k", zorder=3)
    ax.set(title=f"scale {scale}", aspect="equal", xticks=[], yticks=[])
rips_persistence(points).plot(axes[2]).set_title("diagram")
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
