"""The picture of polynomial_networks.md: dimensions, what depth saves, and a border rank."""

from pathlib import Path

import numpy as np
from matplotlib import pyplot

from geomprobe.algebraic import border_rank_scan, depth_efficiency, secant_dimension

figure, axes = pyplot.subplots(1, 3, figsize=(11.5, 3.6))
ranks = np.arange(1, 8)
found = [secant_dimension([3], int(rank), [4]) for rank in ranks]
axes[0].plot(ranks, [one.expected for one in found], "o", mfc="none", label="expected")
axes[0].plot(ranks, [one.dimension for one in found], ".", label="dimension")
axes[0].set(xlabel="hidden units", ylabel="dimension", title="quartics in 3 variables")
axes[0].legend()

sizes = np.arange(2, 7)
deep = [depth_efficiency((int(n),) * 4 + (1,), 2) for n in sizes]
axes[1].semilogy(sizes, [one.deep_parameters for one in deep], ".-", label="three hidden layers")
least = [one.shallow_parameters_at_least for one in deep]
axes[1].semilogy(sizes, least, ".-", label="one hidden layer, at least")
axes[1].set(xlabel="width", ylabel="weights", title="the same function")
axes[1].legend()

a, b = np.eye(2)
terms = ((a, a, b), (a, b, a), (b, a, a))
border_rank_scan(sum(np.einsum("i,j,k->ijk", *term) for term in terms), 2).plot(axes[2])
axes[2].set_title("two terms for rank three")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
