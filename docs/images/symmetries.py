"""The picture of symmetries.md: weights of a network, of an equivalent one, and of that aligned."""

from pathlib import Path

import torch
from matplotlib import pyplot
from torch import nn

from geomprobe import Samples
from geomprobe.landscape import align, random_equivalent

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2))
with torch.no_grad():
    # Rows in order, so that the eye sees it.
    model[0].weight.copy_(model[0].weight[model[0].weight[:, 0].argsort()])
    places = torch.linspace(0, 1, 24)
    model[2].weight.copy_(torch.cos(6 * (places[:, None] - places)))
data = Samples(torch.randn(32, 16))
other = random_equivalent(model, data, rescale=0.4, random_state=0)
found = align(model, other, data, rescale=True)
titles = (
    "a network",
    f"the same function\ndistance {found.distance_before:.3g}",
    f"aligned\ndistance {found.distance_after:.1g}",
)
figure, axes = pyplot.subplots(1, 3, figsize=(9, 3.6))
for ax, one, title in zip(axes, (model, other, found.model), titles, strict=True):
    ax.imshow(one[2].weight.detach(), cmap="RdBu", vmin=-1.5, vmax=1.5)
    ax.set(title=title, xlabel="unit of layer 1", xticks=[], yticks=[])
axes[0].set_ylabel("unit of layer 2")
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
