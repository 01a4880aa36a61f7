"""Draw magnitude.png: the effective number of points of three clouds, by scale."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from geomprobe.topology import magnitude

rng = np.random.default_rng(0)
angles = 2 * np.pi * np.arange(60) / 60
centres = np.repeat(3 * np.stack([np.cos(angles[::20]), np.sin(angles[::20])], axis=1), 20, axis=0)
clouds = {
    "circle": np.stack([np.cos(angles), np.sin(angles)], axis=1),
    "three clusters": centres + 0.02 * rng.normal(size=(60, 2)),
    "plane": rng.normal(size=(60, 2)),
}
scales = np.geomspace(0.03, 300, 60)

figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), width_ratios=(1, 1, 1, 2), layout="constrained")
for ax, (name, points) in zip(axes, clouds.items(), strict=False):
    ax.scatter(*points.T, s=4)
    ax.set(title=name, aspect="equal", xticks=[], yticks=[])
    axes[3].loglog(scales, [magnitude(points, scale).value for scale in scales], label=name)
for number in (3, 60):
    axes[3].axhline(number, color="0.7", lw=0.8, zorder=0)
axes[3].set(title="magnitude", xlabel="scale", ylabel="effective number of points")
axes[3].set_yticks([1, 3, 10, 60], [1, 3, 10, 60])
axes[3].legend(fontsize=8)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
