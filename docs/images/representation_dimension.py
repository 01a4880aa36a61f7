"""Draw representation_dimension.png: scales, the number of points, and collapse."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from geomprobe.representation import gride, neural_collapse, two_nn

rng = np.random.default_rng(0)
figure, axes = plt.subplots(1, 3, figsize=(9, 2.9))
for noise in (0.0, 0.02, 0.1):
    angle = rng.uniform(0, 3 * np.pi, 2000)
    roll = [angle * np.cos(angle), angle * np.sin(angle), rng.uniform(0, 5, 2000)]
    sheet = np.concatenate([np.stack(roll, axis=1), np.zeros((2000, 5))], axis=1)
    gride(sheet + noise * rng.normal(size=sheet.shape), largest=256).plot(axes[0])
    axes[0].lines[-1].set_label(f"noise {noise}")
axes[0].axhline(2, color="0.7", lw=1, zorder=0)
axes[0].set(title="a sheet, over scales", xticks=[0.3, 1, 3], xticklabels=["0.3", "1", "3"])
axes[0].minorticks_off()
axes[0].legend(*[[c.lines[0] for c in axes[0].containers], ["0", "0.02", "0.1"]], title="noise")

sizes = (100, 200, 500, 1000, 2000)
for d in (2, 5, 10, 20):
    found = [two_nn(rng.uniform(size=(n, d))) for n in sizes]
    values, errors = zip(*((one.value, one.stderr) for one in found), strict=True)
    axes[1].errorbar(sizes, values, errors, marker="o", ms=3, label=str(d))
    axes[1].axhline(d, color="0.7", lw=1, zorder=0)
axes[1].set(title="TwoNN of cubes", xscale="log", xlabel="points", ylim=(0, 30))

corners = np.eye(5) - 0.2
labels = np.arange(500) % 5
noises = np.geomspace(0.02, 1, 9)
clouds = [corners[labels] + noise * rng.normal(size=(500, 5)) for noise in noises]
axes[2].loglog(noises, [neural_collapse(X, labels).within_class.value for X in clouds], "o-", ms=3)
axes[2].set(title="NC1 of five classes", xlabel="noise within classes")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
