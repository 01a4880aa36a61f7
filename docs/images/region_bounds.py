"""The picture of region_bounds.md: bounds beside counts, and initializations by depth."""

from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot
from torch import nn

from geomprobe.evidence import Samples
from geomprobe.tropical import initialization_report, region_bounds, region_complex

WIDTH, DEPTHS = 10, (1, 2, 3, 4)


def network(inputs, depth, width, init, gain):
    layers, before = [], inputs
    for _ in range(depth):
        layer = nn.Linear(before, width, dtype=torch.float64)
        init(layer.weight, gain)
        nn.init.normal_(layer.bias, 0, 0.1)
        layers += [layer, nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 1, dtype=torch.float64))


def gaussian(weight, gain):
    nn.init.normal_(weight, 0, gain / weight.shape[1] ** 0.5)


torch.manual_seed(0)
figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6))
bounds = [region_bounds((2, *[WIDTH] * depth, 1)) for depth in DEPTHS]
plane = -torch.full((2,), torch.inf), torch.full((2,), torch.inf)
for seed in range(5):
    counts = [
        region_complex(network(2, depth, WIDTH, gaussian, 2**0.5), plane).activation_regions
        for depth in DEPTHS
    ]
    label = "counted, 5 random networks" if seed == 0 else None
    left.semilogy(DEPTHS, counts, "k.", label=label)
for name, marker in (("montufar", "^"), ("serra", "v"), ("raghu", "")):
    values = [float(getattr(one, name)) for one in bounds]
    left.semilogy(DEPTHS, values, marker=marker, ls="--" if name == "raghu" else "-", label=name)
left.set(xlabel="hidden layers of 10 units", ylabel="regions in the plane", xticks=DEPTHS)
left.legend()
data = Samples(torch.randn(24, 16, dtype=torch.float64))
depths = (1, 2, 4, 8, 16)
schemes = {
    "He": (gaussian, 2**0.5),
    "LeCun": (gaussian, 1.0),
    "orthogonal": (nn.init.orthogonal_, 2**0.5),
}
for name, (init, gain) in schemes.items():
    means = [
        np.mean(
            [
                np.log10(
                    initialization_report(network(16, depth, 48, init, gain), data)
                    .scalars["ntk_condition"]
                    .value
                )
                for _ in range(3)
            ]
        )
        for depth in depths
    ]
    right.plot(depths, means, marker="o", label=name)
right.set(xlabel="hidden layers of 48 units", ylabel="log10 condition number")
right.set_title("tangent kernel on 24 inputs")
right.legend()
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
