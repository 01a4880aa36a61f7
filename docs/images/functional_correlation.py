"""Draw functional_correlation.png: neurons that share a loop of stimuli, and others."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from geomprobe.topology import correlation_distances, correlation_persistence

rng = np.random.default_rng(0)
stimulus = rng.uniform(0, 2 * np.pi, 1000)
preferred = 2 * np.pi * np.arange(40) / 40
# Bumps, one a neuron, round the circle of stimuli; and as many neurons that answer to noise.
ring = np.exp(4 * (np.cos(stimulus[:, None] - preferred) - 1)) + 0.1 * rng.normal(size=(1000, 40))
noise = rng.normal(size=(1000, 40))

figure, axes = plt.subplots(1, 4, figsize=(9, 2.5), layout="constrained")
for (left, right), (name, activations) in zip(
    axes.reshape(2, 2), {"tuned": ring, "independent": noise}.items(), strict=True
):
    distances = correlation_distances(activations).distances
    shown = left.imshow(distances, vmin=0, vmax=1, cmap="viridis")
    left.set(title=name, xlabel="neuron", ylabel="neuron")
    figure.colorbar(shown, ax=left, shrink=0.7, ticks=[0, 1], label="1 - |corr|")
    correlation_persistence(activations).plot(right).set(title="diagram", aspect="equal")
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
