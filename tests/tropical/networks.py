"""Networks with general weights, for the tests of this folder."""

from itertools import pairwise

import torch
from torch import nn


def he_network(*widths, seed=0, act=nn.ReLU):
    """He weights, biases from N(0, 0.25), double precision."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for fan_in, fan_out in pairwise(widths):
        layer = nn.Linear(fan_in, fan_out, dtype=torch.float64)
        with torch.no_grad():
            normal = torch.randn(fan_out, fan_in, generator=generator, dtype=torch.float64)
            layer.weight.copy_(normal * (2 / fan_in) ** 0.5)
            layer.bias.copy_(0.5 * torch.randn(fan_out, generator=generator, dtype=torch.float64))
        layers += [layer, act()]
    return nn.Sequential(*layers[:-1])


class Mixed(nn.Module):
    """Convolutions, BatchNorm, max-pooling, a skip, concatenation, and bends as functions."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.slope = nn.PReLU(3)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout()
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        x = self.act(self.norm(self.first(x)))
        x = self.slope(self.second(x)) + x
        x = self.pool(x)
        x = torch.cat([x, nn.functional.leaky_relu(x, 0.2).clamp(-0.5, 0.5).abs()], 1)
        x = self.drop(x).view(x.size(0), -1)
        return torch.maximum(self.head(x), x[:, :5] - 0.3)


def mixed(seed=0):
    torch.manual_seed(seed)
    model = Mixed()
    with torch.no_grad():
        model.norm.running_mean.normal_(0, 0.3)
        model.norm.running_var.uniform_(0.5, 2)
    return model


def leave_the_second_layer_uncut(monkeypatch):
    """Have meshes of cells miss what bends in module 3."""
    from geomprobe.tropical.cells import CellMesh

    cut = CellMesh._cut

    def not_the_second_layer(mesh, heights, kink, scale=None):
        return heights if kink.name == "3" else cut(mesh, heights, kink, scale)

    monkeypatch.setattr(CellMesh, "_cut", not_the_second_layer)
