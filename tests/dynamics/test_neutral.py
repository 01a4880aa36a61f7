"""What a measurement must not touch: the model, its gradients and statistics, and the streams."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from geomprobe import Samples, Trajectory
from geomprobe.dynamics import (
    conserved_quantities,
    gradient_identities,
    gradient_noise,
    margins,
    natural_angle,
    natural_length,
    step_sizes,
    tangent_features,
)


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))


def flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def path(model):
    points = torch.stack([flat(model), 1.1 * flat(model)]).numpy()
    return Trajectory(points, np.arange(2), np.zeros(2))


CALLS = {
    "conserved_quantities": lambda m, d: conserved_quantities(m, softmax=True),
    "gradient_identities": lambda m, d: gradient_identities(
        m, d, F.cross_entropy, conserved_quantities(m)
    ),
    "gradient_noise": lambda m, d: gradient_noise(m, d, loss=F.cross_entropy),
    "margins": margins,
    "natural_angle": lambda m, d: natural_angle(m, d, flat(m), loss=F.cross_entropy),
    "natural_length": lambda m, d: natural_length(m, d, path(m)),
    "step_sizes": lambda m, d: step_sizes(m, torch.optim.SGD(m.parameters(), lr=0.1)),
    "tangent_features": tangent_features,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nothing_of_the_model_or_the_streams_is_touched(call):
    model = network()
    data = Samples(torch.randn(8, 1, 4, 4), torch.arange(8) % 3)
    F.cross_entropy(model(data.inputs), data.targets).backward()
    model[1].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    streams = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    call(model, data)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(map(torch.equal, (p.grad for p in model.parameters()), gradients))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert (np.random.get_state()[1] == streams[1]).all()
    assert random.getstate() == streams[2]
