"""Where training stopped, on losses whose critical points are known."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from geomprobe import Samples
from geomprobe.algebraic import classify_critical_point
from geomprobe.algebraic.bent_loss import bent_loss
from geomprobe.algebraic.critical_points import KINDS

MSE, CROSS_ENTROPY = nn.functional.mse_loss, nn.functional.cross_entropy


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained(model, data, loss):
    model = model.double()
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=2000, tolerance_grad=1e-13, tolerance_change=0
    )

    def closure():
        optimizer.zero_grad()
        value = loss(model(data.inputs), data.targets)
        value.backward()
        return value

    optimizer.step(closure)
    return model


class Parabola(nn.Module):
    """The loss is the mean of the outputs: a quadratic form of the parameters."""

    def __init__(self, curvatures, at):
        super().__init__()
        self.register_buffer("curvatures", torch.tensor(curvatures))
        self.at = nn.Parameter(torch.tensor(at))

    def forward(self, x):
        return (self.curvatures * self.at**2).sum() / 2 + 0 * x


def mean(outputs, targets):
    return outputs.mean()


@pytest.mark.parametrize(
    ("curvatures", "at", "kind", "index"),
    [
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], "minimum", 0),
        ([1.0, -2.0, 3.0], [0.0, 0.0, 0.0], "strict saddle", 1),
        ([-1.0, -2.0, 0.0], [0.0, 0.0, 0.0], "maximum", 2),
        # At the minimum itself the outputs have no slope, nearby they have: it is singular.
        ([1.0, 2.0, 0.0], [0.0, 0.0, 5.0], "degenerate", 0),
    ],
)
def test_quadratic_forms(curvatures, at, kind, index):
    data = Samples(torch.zeros(2, 1), torch.zeros(2))
    found = classify_critical_point(Parabola(curvatures, at), data, mean)
    assert (found.kind, found.index) == (kind, index)
    assert found.flat == curvatures.count(0.0)
    assert found.kind in KINDS
    assert found.gradient_norm == 0
    np.testing.assert_allclose(found.eigenvalues, sorted(curvatures), atol=1e-12)


def test_one_newton_step_solves_a_quadratic_form():
    data = Samples(torch.zeros(2, 1), torch.zeros(2))
    model = Parabola([1.0, -2.0, 3.0], [4.0, 0.1, -2.0])
    found = classify_critical_point(model, data, mean)
    assert found.kind == "not critical"
    assert found.gradient_norm == pytest.approx(np.linalg.norm([4, 0.2, 6]))
    assert found.newton_step == pytest.approx(1)
    found = classify_critical_point(model, data, mean, newton_steps=8)
    assert (found.kind, found.index) == ("strict saddle", 1)
    assert found.moved == pytest.approx(1)


def test_the_hessian_is_that_of_torch():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    data = Samples(draw(20, 3), draw(20, 2, seed=1))
    here = bent_loss(model, data, MSE)
    names = [name for name, _ in model.named_parameters()]
    sizes = [value.numel() for value in model.parameters()]

    def value(vector):
        parts = torch.split(vector, sizes)
        shaped = {
            name: part.view_as(model.get_parameter(name))
            for name, part in zip(names, parts, strict=True)
        }
        return MSE(functional_call(model, shaped, data.inputs), data.targets)

    start = torch.cat([parameter.detach().ravel() for parameter in model.parameters()])
    np.testing.assert_allclose(here.hessian, torch.func.hessian(value)(start), atol=1e-12)
    np.testing.assert_allclose(here.gradient, torch.func.grad(value)(start), atol=1e-12)
    assert here.value == pytest.approx(float(value(start)))


def test_a_linear_network_is_flat_along_its_changes_of_basis():
    torch.manual_seed(0)
    data = Samples(draw(30, 3), draw(30, 2, seed=1))
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False))
    found = classify_critical_point(trained(model, data, MSE), data, MSE, newton_steps=3)
    assert found.kind == "minimum"
    assert found.flat == found.symmetric == found.flat_on_data == 2 * 2
    assert found.unexplained == 0


@pytest.mark.parametrize(
    ("depth", "index", "kind"), [(2, 6, "strict saddle"), (3, 0, "degenerate")]
)
def test_the_origin_of_linear_networks(depth, index, kind):
    # Of two layers (h - k)(m - k) with h = 3, m = 2, k = 0; of three all second derivatives are 0.
    layers = [nn.Linear(3, 3, bias=False) for _ in range(depth - 1)]
    model = nn.Sequential(*layers, nn.Linear(3, 2, bias=False))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    data = Samples(draw(30, 3), draw(30, 2, seed=1))
    found = classify_critical_point(model, data, MSE)
    assert (found.kind, found.index) == (kind, index)
    assert found.symmetric == 0
    assert any("singular" in note for note in found.notes)


def test_softmax_regression_is_flat_along_common_shifts():
    x = draw(60, 3)
    labels = torch.randint(3, (60,), generator=torch.Generator().manual_seed(2))
    data = Samples(x, labels)
    found = classify_critical_point(
        trained(nn.Linear(3, 3), data, CROSS_ENTROPY), data, CROSS_ENTROPY
    )
    assert found.kind == "minimum"
    assert found.flat == found.symmetric == 3 + 1


def test_fitted_data_leave_directions_that_are_no_symmetry():
    torch.manual_seed(0)
    data = Samples(draw(6, 3), draw(6, 1, seed=1))
    model = trained(nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 1)), data, MSE)
    found = classify_critical_point(model, data, MSE, newton_steps=5)
    p = found.n_parameters
    assert found.kind == "minimum"
    assert found.flat == found.flat_on_data == p - 6
    assert found.symmetric == 0
    assert found.unexplained == p - 6
    assert any("the data are fitted" in note for note in found.notes)


def test_newton_steps_find_the_point_and_its_kind():
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    teacher[0].weight.data *= 3
    x = draw(200, 3)
    data = Samples(x, teacher(x).detach() + 0.1 * draw(200, 2, seed=1))
    model = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    before = copy.deepcopy(model.state_dict())
    assert classify_critical_point(model, data, MSE).kind == "not critical"
    found = classify_critical_point(model, data, MSE, newton_steps=8)
    assert found.kind == "minimum"
    assert found.relative_gradient < 1e-10
    assert (found.index, found.flat) == (0, 0)
    assert 0 < found.moved < 0.5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_saddle_of_two_equal_units():
    # Two units that start equal stay so: what training finds among such weights is a critical
    # point of all weights, as the loss is unchanged by their exchange; here it is a saddle.
    torch.manual_seed(3)
    x = draw(80, 2)
    data = Samples(x, (x[:, :1] * x[:, 1:]).sin())

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(2, 1), nn.Linear(1, 1, bias=False)

        def forward(self, x):
            return 2 * self.outer(torch.tanh(self.inner(x)))

    tied = trained(Tied(), data, MSE)
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(tied.inner.weight.expand(2, 2))
        model[0].bias.copy_(tied.inner.bias.expand(2))
        model[2].weight.copy_(tied.outer.weight.expand(1, 2))
    found = classify_critical_point(model, data, MSE)
    assert found.kind == "strict saddle"
    assert found.index > 0
    assert found.relative_gradient < 1e-5


def test_probe_inputs_may_be_given():
    torch.manual_seed(0)
    data = Samples(draw(30, 3), draw(30, 2, seed=1))
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False))
    probe = Samples(draw(60, 3, seed=5).float())
    found = classify_critical_point(trained(model, data, MSE), data, MSE, probe=probe)
    assert found.symmetric == 4


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    before = copy.deepcopy(model.state_dict())
    stream = torch.get_rng_state()
    data = Samples(torch.ones(8, 3), torch.zeros(8, 2))
    classify_critical_point(model, data, MSE, newton_steps=1)
    assert torch.equal(stream, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_it_is_drawn():
    data = Samples(draw(8, 3), draw(8, 2, seed=1))
    axes = classify_critical_point(nn.Linear(3, 2), data, MSE).plot()
    assert axes.get_title() == "not critical"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"newton_steps": -1}, "newton_steps must not be negative"),
        ({"tolerance": 0}, r"tolerance in \(0, 1\)"),
        ({"loss": lambda a, b: (a - b) ** 2}, "the loss must be one finite number"),
        ({"loss": lambda a, b: (b**2).sum()}, "does not depend on the parameters"),
        ({"data": Samples(draw(8, 3))}, "targets are needed"),
    ],
)
def test_bad_input_is_refused(options, message):
    options = {"data": Samples(draw(8, 3), draw(8, 2)), "loss": MSE, **options}
    with pytest.raises(ValueError, match=message):
        classify_critical_point(nn.Linear(3, 2), **options)


def test_too_many_parameters_are_refused_before_they_start():
    data = Samples(torch.zeros(4, 1), torch.zeros(4, 1))
    model = nn.Sequential(nn.Linear(1, 30_000), nn.Linear(30_000, 1))
    with pytest.raises(MemoryError, match="the Hessian of 90001 parameters needs about"):
        classify_critical_point(model, data, MSE)
