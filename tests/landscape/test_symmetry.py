"""Permutations and rescalings: known groups, and copies that must be recovered exactly."""

import copy
import math

import pytest
import torch
from torch import nn

from geomprobe import Samples
from geomprobe.algebraic import functional_dimension
from geomprobe.landscape import (
    align,
    canonical,
    distance,
    random_equivalent,
    symmetries,
    verify_same_function,
)
from tests.landscape.symmetric_networks import NETWORKS, ResNet, data, mlp, network

#: Orders of the permutation groups, counted by hand.
ORDERS = {
    "mlp": [8, 7],
    "tanh": [8, 7],
    "cnn": [5, 4, 6],
    # The stream of the first blocks; three insides; what has no shortcut in the last block: units
    # that it adds to, and weights that see zeros.
    "resnet": [4, 4, 4, 8, 4, 4],
    # Units of the stream; heads, queries with keys and values within each; gated units.
    "transformer": [12, 3, *[4, 4] * 3, 7],
    "own attention": [12, 3, *[4, 4] * 3, 7],
    "language": [12, *[3, *[4, 4] * 3, 10] * 2],
    "lstm": [6],
    # Groups of two channels, which keep their order where the groups begin; and the last layer.
    "dense": [3, *[2] * 3, 5],
}


def state(model):
    return torch.cat([p.detach().double().ravel() for p in model.parameters()])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_group_has_the_order_counted_by_hand(name):
    found = symmetries(network(name), data(name))
    expected = sum(math.lgamma(n + 1) for n in ORDERS[name])
    assert found.log_order == pytest.approx(expected)
    assert not any("not known" in reason for reason in found.pinned.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_permuted_and_rescaled_copy_is_recovered(name):
    model, samples = network(name), data(name)
    other = random_equivalent(model, samples, rescale=0.5, random_state=3)
    assert float((state(model) - state(other)).norm()) > 1
    assert verify_same_function(model, other, samples, tolerance=1e-4) < 1e-4
    found = align(model, other, samples, rescale=True)
    assert found.distance_after < 1e-5 * found.distance_before
    assert found.difference < 1e-9
    assert distance(model, other, samples).value < 1e-5
    one, two = (state(canonical(m, samples)) for m in (model, other))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_statistics_are_permuted_along():
    model, samples = network("resnet"), data("resnet")
    other = random_equivalent(model, samples, rescale=0)
    found = align(model, other, samples).model
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(found.get_buffer(name), buffer)
    assert not torch.equal(other.last.bn1.running_var, model.last.bn1.running_var)


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_activations_find_the_permutation_too(name):
    model, samples = network(name), data(name)
    other = random_equivalent(model, samples, rescale=0.5, random_state=1)
    found = align(model, other, samples, match="activations", rescale=True, batch_size=10)
    assert found.distance_after < 1e-5 * found.distance_before


def test_each_hidden_relu_is_one_redundant_direction():
    # Grigsby et al. (2022): the Jacobian of a generic ReLU network misses one for each hidden unit.
    samples = Samples(torch.randn(400, 4, generator=torch.Generator().manual_seed(0)))
    for seed, activation, redundant in ((2, nn.ReLU, 9), (2, nn.Tanh, 0)):
        torch.manual_seed(seed)
        model = mlp((4, 5, 4, 2), activation)
        model[0].bias.data.zero_()
        found = symmetries(model, samples)
        assert found.continuous_dimension == redundant
        assert found.continuous_dimension == functional_dimension(model, samples, draws=0).redundant


def test_scalings_before_batch_norm_are_exact_with_its_eps():
    model, samples = network("resnet"), data("resnet")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.3
    other = random_equivalent(model, samples, permute=False, rescale=0.3)
    assert verify_same_function(model, other, samples, tolerance=1e-5) < 1e-5
    moved = {
        name
        for name, p in model.named_parameters()
        if not torch.equal(p, other.get_parameter(name))
    }
    assert {"last.conv1.weight", "last.bn1.weight", "last.conv2.weight"} <= moved


class Odd(nn.Module):
    """What cannot be followed, beside what can."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 2)
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.cat([x[:, :2] * 2, x[:, 2:]], 1)
        return self.last(self.second(x).sort(1).values)


def test_what_is_not_understood_is_pinned_with_the_reason():
    samples = Samples(torch.randn(8, 4))
    found = symmetries(Odd(), samples)
    assert "sort" in found.pinned["second.weight[0]"]
    assert found.pinned["last.weight[0]"] == "an output of the model"
    assert found.pinned["first.weight[1]"] == "meets an axis of the data"
    assert found.pinned["unused.weight[0]"] == "not used in the pass"
    # Two of the six units are doubled.
    assert found.log_order == pytest.approx(math.log(math.factorial(2) * math.factorial(4)))


class Repeating(nn.Module):
    """The same layer twice, on both sides of one space."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.again.requires_grad_(False)

    def forward(self, x):
        x = torch.relu(self.first(x))
        for _ in range(2):
            x = torch.relu(self.again(x))
        return self.last(x)


def test_shared_and_frozen_parameters_move_with_the_others():
    torch.manual_seed(0)
    model, samples = Repeating(), Samples(torch.randn(8, 4))
    found = symmetries(model, samples)
    assert found.log_order == pytest.approx(math.log(math.factorial(6)))
    other = random_equivalent(model, samples)
    assert not torch.equal(other.again.weight, model.again.weight)
    assert align(model, other, samples, rescale=True).distance_after < 1e-6


def test_another_function_is_told():
    samples = data("mlp")
    model, other = network("mlp"), network("mlp", seed=5)
    with pytest.raises(ValueError, match="not one function"):
        verify_same_function(model, other, samples)


def test_the_model_is_left_as_it_was():
    model, samples = ResNet(), data("resnet")
    model(samples.inputs).sum().backward()
    model.blocks.eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    gradients = [p.grad.clone() for p in model.parameters()]
    stream = torch.get_rng_state()
    found = align(model, copy.deepcopy(model), samples)
    canonical(model, samples)
    assert found.distance_after == 0
    assert torch.equal(stream, torch.get_rng_state())
    assert [m.training for m in model.modules()] == modes
    assert [m.training for m in found.model.modules()] == modes
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: symmetries(nn.ReLU(), s), "no parameters"),
        (lambda s: symmetries(mlp(), s.take(slice(0, 0))), "no samples"),
        (lambda s: align(mlp(), mlp((6, 8, 9, 3)), s), "one architecture"),
        (lambda s: align(mlp(), mlp((6, 8, 3)), s), "one architecture"),
        (lambda s: align(mlp(), mlp(), s, match="signs"), "match must be"),
        (lambda s: align(mlp(), mlp(), s, restarts=0), "at least 1"),
        (lambda s: random_equivalent(mlp(), s, rescale=-1), "not negative"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(data("mlp"))


def test_parameters_that_are_not_finite_are_refused():
    model = mlp()
    model[0].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"'0.weight' of b is not finite"):
        align(mlp(), model, data("mlp"))
