"""The picture of mode_connectivity.md: the loss between two networks that have learned digits."""

from pathlib import Path

import torch
from matplotlib import pyplot
from sklearn.datasets import load_digits
from torch import nn

from geomprobe import Samples
from geomprobe.landscape import align, connectivity_matrix, linear_barrier, low_loss_curve

loss = nn.functional.cross_entropy
digits = load_digits()
data = Samples(torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target))


def trained(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(10):
        for rows in torch.randperm(len(data)).split(64):
            optimizer.zero_grad()
            loss(model(data.inputs[rows]), data.targets[rows]).backward()
            optimizer.step()
    return model


models = [trained(seed) for seed in range(4)]
a, b = models[:2]
figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8))
linear_barrier(a, b, data, loss).train.plot(left, label="straight line")
nearest = align(a, b, data).model
linear_barrier(a, nearest, data, loss).train.plot(left, label="straight line, aligned")
low_loss_curve(a, b, data, loss, steps=300).path.plot(left, label="trained curve")
connectivity_matrix(models, data, loss, names=[f"seed {k}" for k in range(4)]).plot(right)
figure.tight_layout()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=100)
