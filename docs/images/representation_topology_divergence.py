"""Draw representation_topology_divergence.png: a cloud beside itself split into clusters."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from geomprobe.topology import cross_barcode, rtd

rng = np.random.default_rng(0)
base = rng.normal(size=(300, 2))


def split(k: int) -> np.ndarray:
    """Return the points moved apart into k clusters on a circle."""
    angles = 2 * np.pi * (np.arange(300) % k) / k
    return base + (k > 1) * 10 * np.stack([np.cos(angles), np.sin(angles)], axis=1)


figure, axes = plt.subplots(
    1, 4, figsize=(9, 2.6), width_ratios=(1, 1, 1.4, 1.4), layout="constrained"
)
for ax, k in zip(axes, (1, 6), strict=False):
    ax.scatter(*split(k).T, s=2)
    ax.set(title=f"{k} cluster{'s' * (k > 1)}", aspect="equal", xticks=[], yticks=[])

bars = cross_barcode(split(6), base)[1]
bars = bars[np.argsort(bars[:, 1] - bars[:, 0])][-40:]
axes[2].hlines(range(len(bars)), *bars.T, lw=1.2)
axes[2].set(title="H1 of the cross-barcode", xlabel="scale", yticks=[])

counts = (1, 2, 3, 4, 6, 9, 12)
axes[3].plot(counts, [rtd(base, split(k)).value for k in counts], marker="o", ms=3)
axes[3].set(title="divergence", xlabel="clusters", ylabel="RTD to one cluster", xticks=counts)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
