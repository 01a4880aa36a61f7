"""The rank of the Jacobian of models whose functional dimension is known."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe import Samples
from geomprobe.algebraic import functional_dimension


def mlp(widths, activation, bias=True):
    torch.manual_seed(0)
    layers = []
    for below, above in pairwise(widths):
        layers += [nn.Linear(below, above, bias=bias), activation()]
    return nn.Sequential(*layers[:-1])


def data(n=200, d=4):
    return Samples(torch.randn(n, d, generator=torch.Generator().manual_seed(1)))


def test_tanh_networks_have_no_continuous_symmetry():
    # Sussmann (1992): the symmetries are finite.
    found = functional_dimension(mlp([4, 6, 5, 2], nn.Tanh), data())
    assert found.rank == found.n_parameters == 77
    assert found.redundant == found.drop == found.doubtful == 0
    assert found.gap > 1e6


@pytest.mark.parametrize("widths", [[4, 5, 2], [4, 3, 2]])
def test_each_hidden_relu_has_one_scaling(widths):
    # Grigsby et al. (2022): parameters less hidden units is the most, and attained by these.
    model = mlp(widths, nn.ReLU)
    model[0].bias.data.zero_()
    found = functional_dimension(model, data(800))
    assert found.redundant == widths[1]
    # By hand: the scaling of a unit is (w, b, -v) in its weights, its bias and those above.
    unit = 1
    scaling = [torch.zeros_like(value) for value in model.parameters()]
    scaling[0][unit] = model[0].weight[unit].detach()
    scaling[2][:, unit] = -model[2].weight[:, unit].detach()
    norm = sum(float(part.square().sum()) for part in scaling)
    within = sum(
        float((torch.from_numpy(share) * part.square()).sum())
        for share, part in zip(found.redundancy.values(), scaling, strict=True)
    )
    assert 0 < within <= norm


def test_linear_networks_give_matrices_of_bounded_rank():
    model = mlp([4, 3, 5, 4], nn.Identity, bias=False)
    assert functional_dimension(model, data()).rank == 3 * (4 + 4 - 3)


def test_softmax_sees_differences_alone():
    model = nn.Sequential(mlp([4, 5, 3], nn.Tanh), nn.Softmax(dim=1))
    assert functional_dimension(model, data()).redundant == 5 + 1


def test_equal_units_are_singular():
    model = mlp([4, 6, 1], nn.Tanh)
    model[0].weight.data[1] = model[0].weight.data[0]
    model[0].bias.data[1] = model[0].bias.data[0]
    found = functional_dimension(model, data())
    # Their outgoing weights count as one, and so do, with one output, weights and biases of both.
    assert found.redundant == found.drop == 1 + 4 + 1
    assert sum(share.sum() for share in found.redundancy.values()) == pytest.approx(6)


def test_dead_units_are_singular_and_silent():
    model = mlp([4, 6, 2], nn.ReLU)
    model[0].bias.data[2] = -100
    found = functional_dimension(model, data())
    assert found.silent == {"0.weight": 4, "0.bias": 1, "2.weight": 2, "2.bias": 0}
    assert found.drop > 0
    np.testing.assert_allclose(found.redundancy["0.weight"][2], 1)
    np.testing.assert_allclose(found.redundancy["2.weight"][:, 2], 1)


def test_no_more_dimensions_than_outputs():
    found = functional_dimension(mlp([4, 6, 2], nn.Tanh), data(5), draws=0)
    assert found.rank == found.n_rows == 10
    assert found.rank_of_half == 4
    assert found.elsewhere == ()


def test_one_sample_has_no_half():
    found = functional_dimension(mlp([4, 6, 2], nn.Tanh), data(1))
    assert (found.rank, found.rank_of_half) == (2, 0)


def test_the_matrix_is_that_of_autograd():
    model = mlp([4, 3, 2], nn.Tanh).double()
    inputs = data(30).inputs.double()
    rows = []
    for output in model(inputs).ravel():
        parts = torch.autograd.grad(output, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([part.ravel() for part in parts]))
    expected = torch.linalg.svdvals(torch.stack(rows))
    # 60 rows for 23 parameters: on the way they are brought to a triangle.
    found = functional_dimension(model, Samples(inputs))
    np.testing.assert_allclose(found.singular_values, expected, rtol=1e-9)


def test_frozen_parameters_are_constants():
    model = mlp([4, 5, 2], nn.Tanh)
    model[0].requires_grad_(False)
    found = functional_dimension(model, data())
    assert found.rank == found.n_parameters == 12
    assert set(found.redundancy) == {"2.weight", "2.bias"}


class Single(nn.Module):
    """Insists on single precision."""

    def __init__(self):
        super().__init__()
        self.layers = mlp([4, 3, 2], nn.Tanh)

    def forward(self, x):
        return self.layers(x.float())


def test_a_model_that_wants_single_precision_is_looked_at_in_it():
    found = functional_dimension(Single(), data())
    assert found.rank == 23
    assert "cannot run in double precision" in found.notes[0]


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 2)
    )
    model(torch.randn(8, 4)).sum().backward()
    before = copy.deepcopy(model.state_dict())
    gradients = [value.grad.clone() for value in model.parameters()]
    stream = torch.get_rng_state()
    functional_dimension(model, data(40))
    assert torch.equal(stream, torch.get_rng_state())
    assert all(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.dtype == before[name].dtype
    for value, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(value.grad, gradient)


def test_it_is_drawn():
    axes = functional_dimension(mlp([4, 3, 2], nn.ReLU), data()).plot()
    assert "singular value" in axes.get_ylabel()


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return {"logits": x * self.scale}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Linear(4, 2), {"tolerance": 1}, "tolerance must be between 0 and 1"),
        (nn.Linear(4, 2), {"draws": -1}, "draws must not be negative"),
        (nn.ReLU(), {}, "no parameters"),
        (nn.Linear(4, 2).requires_grad_(False), {}, "requires_grad=False"),
        (Tokens(), {}, "outputs are dict, expected one tensor of real numbers"),
        (nn.Sequential(nn.Linear(4, 2), nn.Flatten(0)), {}, "the first axis must be the samples"),
    ],
)
def test_bad_input_is_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        functional_dimension(model, data(), **options)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="data holds no samples"):
        functional_dimension(nn.Linear(4, 2), data(0))


def test_too_many_parameters_are_refused_before_it_starts():
    model = nn.Sequential(nn.Linear(1, 50_000), nn.ReLU(), nn.Linear(50_000, 1))
    with pytest.raises(MemoryError, match="the Jacobian of 150001 parameters needs about"):
        functional_dimension(model, Samples(torch.zeros(200_000, 1)))
