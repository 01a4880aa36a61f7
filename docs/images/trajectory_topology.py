"""Draw trajectory_topology.png: paths of two kinds, and the fit that gives their PH dimension."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from geomprobe.topology import euclidean_mst, ph_dimension

rng = np.random.default_rng(0)
noise = rng.normal(size=(1000, 50))
drift, pull = np.zeros(50), 0.02
drift[0] = 0.02
smooth = np.cumsum(drift + 0.001 * noise, axis=0)
jittery = np.zeros((1000, 50))
for step in range(1, 1000):
    jittery[step] = (1 - pull) * jittery[step - 1] + 0.02 * noise[step]

figure, axes = plt.subplots(1, 3, figsize=(9, 3), width_ratios=(1, 1, 1.4), layout="constrained")
for ax, (name, path) in zip(axes, {"drift": smooth, "jitter": jittery}.items(), strict=False):
    tree = euclidean_mst(path)
    ax.plot(*path[tree.edges][..., :2].transpose(2, 1, 0), color="C0", lw=0.5)
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    ax.set_title(f"{name}: tree / path {tree.weighted_sum() / length:.3f}", fontsize=10)
    ax.set(xlabel="coordinate 1", ylabel="coordinate 2")
    ax.locator_params(nbins=4)
    found = ph_dimension(path)
    label = f"{name}: {found.estimate.value:.2f} ± {found.estimate.stderr:.2f}"
    (line,) = axes[2].loglog(found.sizes, found.sums, "o", ms=3, label=label)
    fitted = np.exp(found.intercept) * np.asarray(found.sizes, float) ** found.slope
    axes[2].loglog(found.sizes, fitted, color=line.get_color(), lw=1)
axes[2].set(title="PH dimension", xlabel="iterates", ylabel="sum of the edges")
axes[2].xaxis.set_major_locator(FixedLocator([100, 200, 400, 800]))
axes[2].xaxis.set_major_formatter(ScalarFormatter())
axes[2].xaxis.set_minor_locator(NullLocator())
axes[2].legend(fontsize=8)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
