"""The picture of linear_regions.md: a trained network along a segment and in a plane."""

from pathlib import Path

import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe.tropical import linear_pieces, slice_regions

x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
x = x.float() / 16
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
for _ in range(150):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()

figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4))
zero, one, two = (x[y == digit][0] for digit in range(3))
linear_pieces(model, zero, one).plot(left)
left.set(xlabel="from a zero (t = 0) to a one (t = 1)", ylabel="logits")
slice_regions(model, zero, one, two).plot(right)
right.set(xticks=[], yticks=[])
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
