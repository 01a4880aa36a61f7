"""Polynomials along slices, against functions whose Chebyshev series is known."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe import Samples
from geomprobe.algebraic import effective_degree, slice_polynomial


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


SEGMENT = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
PLANE = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)


def test_the_series_of_the_absolute_value():
    # Trefethen (2019): |x| = 2/pi - 4/pi sum (-1)^k / (4 k^2 - 1) T_2k.
    fit = slice_polynomial(Function(torch.abs), SEGMENT, max_degree=64)
    k = np.arange(1, 10)
    expected = (-1.0) ** (k + 1) * 4 / (np.pi * (4 * k**2 - 1))
    np.testing.assert_allclose(fit.coefficients[2 * k, 0], expected, rtol=3e-3)
    assert fit.coefficients[0, 0] == pytest.approx(2 / np.pi, rel=1e-4)
    assert np.abs(fit.coefficients[1::2]).max() < 1e-12
    # The variation of |x| in the Chebyshev measure: 1/2 - 4/pi^2.
    assert fit.variation == pytest.approx(0.5 - 4 / np.pi**2, rel=1e-4)


def test_errors_are_those_of_least_squares_in_the_chebyshev_measure():
    def function(x):
        return torch.cat([torch.tanh(4 * x), torch.relu(x - 0.3)], dim=1)

    fit = slice_polynomial(Function(function), SEGMENT, max_degree=6)
    nodes = np.cos(np.pi * (np.arange(28) + 0.5) / 28)
    values = function(torch.from_numpy(nodes)[:, None]).numpy()
    for degree in range(7):
        basis = np.polynomial.polynomial.polyvander(nodes, degree)
        left = values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]
        about_mean = values - values.mean(axis=0)
        expected = np.linalg.norm(left) / np.linalg.norm(about_mean)
        assert fit.errors[degree] == pytest.approx(expected, rel=1e-8)


def test_an_analytic_function_converges_at_the_rate_of_its_ellipse():
    # Bernstein: tanh(a x) has its nearest pole at i pi / (2 a).
    a = 3.0
    fit = slice_polynomial(Function(lambda x: torch.tanh(a * x)), SEGMENT, max_degree=40)
    pole = np.pi / (2 * a)
    rate = (fit.errors[31] / fit.errors[11]) ** (1 / 20)
    assert rate == pytest.approx(1 / (pole + np.sqrt(1 + pole**2)), rel=0.01)


def test_a_polynomial_is_found_and_its_degree():
    fit = slice_polynomial(Function(lambda x: x**5 - 2 * x**3 + 1), SEGMENT, max_degree=9)
    assert fit.degree(1e-10) == 5
    assert fit.errors[5] == 0
    t = np.linspace(0, 1, 7)
    x = 2 * t - 1
    np.testing.assert_allclose(fit(t)[:, 0], x**5 - 2 * x**3 + 1, atol=1e-12)


def test_on_a_plane_the_total_degree_counts():
    def function(x):
        return torch.stack([x[:, 0] ** 2 * x[:, 1], x[:, 0] - x[:, 1]], dim=1)

    fit = slice_polynomial(Function(function), PLANE, max_degree=5)
    assert fit.degree(1e-10) == 3
    t = np.random.default_rng(0).uniform(size=(9, 2))
    np.testing.assert_allclose(fit(t), function(torch.from_numpy(2 * t - 1)), atol=1e-12)
    assert np.abs(fit(t, degree=1)[:, 0] - fit(t)[:, 0]).max() > 0.01
    np.testing.assert_allclose(fit(t, degree=1)[:, 1], fit(t)[:, 1], atol=1e-12)


def test_a_slice_of_images():
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 4))
    fit = slice_polynomial(model, torch.randn(2, 1, 3, 3), max_degree=3)
    assert fit.degree(1e-5) == 1


@pytest.mark.parametrize("degree", [2, 3])
def test_a_polynomial_network_has_its_degree(degree):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), Function(lambda x: x**degree), nn.Linear(5, 2)).double()
    data = Samples(torch.randn(20, 3, dtype=torch.float64))
    found = effective_degree(model, data, tolerance=1e-9, max_degree=8)
    assert found.degree.value == degree
    assert found.degree.stderr == 0
    assert (found.segment_degrees == degree).all()
    assert 0 < found.nonlinearity.value < 1


def test_a_linear_model_is_of_degree_one():
    found = effective_degree(nn.Linear(3, 2), Samples(torch.randn(20, 3)))
    assert found.degree.value == 1
    assert found.nonlinearity.value < 1e-5


def test_errors_are_pooled_by_variation():
    # Steep between far inputs, constant between near ones: the constant segments do not count.
    model = Function(lambda x: x.clamp(min=0))
    inputs = torch.tensor([[-3.0], [-2.0], [-1.0], [1.0]], dtype=torch.float64)
    found = effective_degree(model, Samples(inputs), segments=40, max_degree=16, tolerance=0.05)
    assert (found.segment_degrees == 0).any()
    assert found.degree.value > 1
    assert found.plot().get_xlabel() == "degree"


def test_what_no_polynomial_reaches_is_undefined():
    model = Function(lambda x: (x > 0.1).double())
    data = Samples(torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None])
    found = effective_degree(model, data, tolerance=0.01, max_degree=4)
    assert np.isnan(found.degree.value)
    assert "polynomials of degree 4 leave more than 0.01" in found.degree.note
    assert np.isinf(found.segment_degrees).any()
    constant = effective_degree(Function(torch.ones_like), data)
    assert "do not vary" in constant.degree.note


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.ReLU())
    before, stream = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    effective_degree(model, Samples(torch.randn(9, 3, generator=torch.Generator())), segments=4)
    assert model.training
    assert torch.equal(stream, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: slice_polynomial(m, torch.zeros(2, 1, dtype=torch.long)), "of tokens there is"),
        (lambda m: slice_polynomial(m, torch.zeros(4, 1)), "two or three finite inputs, got 4"),
        (lambda m: slice_polynomial(m, torch.tensor([[0.0], [torch.nan]])), "finite"),
        (lambda m: slice_polynomial(m, torch.zeros(2, 1), max_degree=0), "at least 1, got 0"),
        (lambda m: effective_degree(m, Samples(torch.zeros(1, 1))), "at least two inputs"),
        (lambda m: effective_degree(m, Samples((torch.zeros(4, 1),))), "as tuple"),
        (lambda m: effective_degree(m, Samples(torch.zeros(4, 1)), tolerance=0), "tolerance"),
        (lambda m: effective_degree(m, Samples(torch.zeros(4, 1)), segments=3), "at least 4"),
        (
            lambda m: slice_polynomial(Function(lambda x: x / 0), torch.tensor([[1.0], [2.0]])),
            "not finite",
        ),
        (
            lambda m: slice_polynomial(Function(lambda x: (x, x)), torch.tensor([[1.0], [2.0]])),
            "one tensor of real numbers",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(nn.Linear(1, 1))


def test_what_does_not_fit_in_memory_is_refused():
    model = Function(lambda x: x[:, :1].expand(-1, 10**6))
    with pytest.raises(MemoryError, match="outputs of size 1000000"):
        slice_polynomial(model, PLANE, max_degree=500, batch_size=1)
