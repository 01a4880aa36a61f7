import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from geomprobe.information import parameter_draws


def model():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def flat(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def test_draws_differ_and_repeat_with_the_seed():
    original = model()
    first, again = ([flat(one) for one in parameter_draws(original, 3, seed=5)] for _ in range(2))
    other = [flat(one) for one in parameter_draws(original, 3, seed=6)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(one.tolist()) for one in first + other}) == 6


def test_draws_follow_the_initialisation_of_the_modules():
    # nn.Linear draws uniformly in +-1/sqrt(fan in): +-1/3 here.
    layer = nn.Linear(9, 50)
    with torch.no_grad():
        layer.weight.fill_(7.0)
    weights = np.concatenate(
        [one.weight.detach().numpy().ravel() for one in parameter_draws(layer, 4)]
    )
    assert stats.kstest(weights, stats.uniform(-1 / 3, 2 / 3).cdf).pvalue > 0.01


def test_draws_from_a_ball_are_uniform_in_it():
    # The distance of a uniform point of a d-ball to the power d is uniform.
    layer = nn.Linear(2, 1, dtype=torch.float64)
    steps = torch.stack([flat(one) - flat(layer) for one in parameter_draws(layer, 400, radius=2)])
    distances = steps.norm(dim=1).numpy() / 2
    assert distances.max() <= 1
    assert stats.kstest(distances**3, stats.uniform.cdf).pvalue > 0.01
    directions = steps / steps.norm(dim=1, keepdim=True)
    # Each coordinate of a uniform direction on the 2-sphere is uniform in [-1, 1] (Archimedes).
    assert stats.kstest(directions[:, 0].numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.01


@pytest.mark.parametrize("radius", [None, 0.5])
def test_the_model_and_the_random_streams_are_left_alone(radius):
    original = model()
    original(torch.randn(8, 3))
    before, stream = flat(original).clone(), torch.get_rng_state()
    statistics = original[1].running_mean.clone()
    drawn = list(parameter_draws(original, 2, radius=radius))
    assert torch.equal(flat(original), before)
    assert torch.equal(original[1].running_mean, statistics)
    assert torch.equal(torch.get_rng_state(), stream)
    assert original.training
    assert all(one.training for one in drawn)


@pytest.mark.parametrize("radius", [None, 0.5])
def test_frozen_parameters_keep_their_values(radius):
    original = model()
    original[0].weight.requires_grad_(False)
    original[2].requires_grad_(False)
    (drawn,) = parameter_draws(original, 1, radius=radius)
    assert torch.equal(drawn[0].weight, original[0].weight)
    assert torch.equal(drawn[2].weight, original[2].weight)
    assert not torch.equal(drawn[0].bias, original[0].bias)


def test_attention_can_be_drawn():
    attention = nn.MultiheadAttention(4, 2)
    (drawn,) = parameter_draws(attention, 1)
    assert not torch.equal(drawn.in_proj_weight, attention.in_proj_weight)
    assert not torch.equal(drawn.out_proj.weight, attention.out_proj.weight)


class Raw(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(2))


def test_modules_without_an_initialisation_are_named():
    nested = nn.Sequential(nn.Linear(2, 2), Raw())
    nested[1].inner = Raw()
    with pytest.raises(ValueError, match=r"in 1 \(Raw\), 1.inner \(Raw\), .* give a radius"):
        parameter_draws(nested, 1)


def test_a_radius_needs_no_initialisation():
    (drawn,) = parameter_draws(Raw(), 1, radius=0.1)
    assert not torch.equal(drawn.scale, torch.ones(2))


def test_a_model_that_cannot_be_copied_says_so():
    layer = nn.Linear(2, 2)
    layer.computed = layer.weight * 2  # deepcopy refuses what is no leaf
    with pytest.raises(ValueError, match="cannot be copied"):
        next(parameter_draws(layer, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"draws": -1}, "draws"), ({"radius": 0.0}, "radius"), ({"radius": float("inf")}, "radius")],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        parameter_draws(model(), **({"draws": 1} | arguments))
