"""Dimensions of neurovarieties against theorems, published values and other ways to calculate."""

from itertools import pairwise

import pytest
import sympy
import torch
from torch import nn

from geomprobe import Samples
from geomprobe.algebraic import functional_dimension, neurovariety_dimension

# Kileel, Trager and Bruna (2019), and Finkel, Rodriguez, Wu and Yahl (2024).
PUBLISHED = {
    ((2, 2, 2), 2): 6,
    ((3, 3, 3), 2): 15,
    ((3, 2, 1), 2): 5,
    ((2, 2, 2, 1), 2): 5,
    ((2, 3, 3, 2), 2): 10,
    ((3, 3, 2, 1), 2): 11,
    ((4, 4, 4, 1), 2): 22,
    ((3, 4, 4, 1), 2): 15,
    ((2, 2, 3), 3): 8,
}


class Power(nn.Module):
    def __init__(self, degree):
        super().__init__()
        self.degree = degree

    def forward(self, x):
        return x**self.degree


def network(widths, degree, bias=False):
    layers = []
    for below, above in pairwise(widths):
        layers += [nn.Linear(below, above, bias=bias), Power(degree)]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize(("network", "dimension"), PUBLISHED.items())
def test_published_dimensions(network, dimension):
    widths, degree = network
    found = neurovariety_dimension(widths, degree)
    assert found.dimension == dimension
    assert set(found.certificate.by_prime.values()) == {dimension}


def test_what_is_said_of_two_of_them():
    filling = neurovariety_dimension((2, 2, 2), 2)
    assert filling.filling
    assert filling.ambient == 6
    assert filling.fibre_dimension == 8 - 6
    assert filling.certificate.proven
    short = neurovariety_dimension((3, 2, 1), 2)
    assert (short.dimension, short.expected, short.defect) == (5, 6, 1)
    assert not short.filling
    assert not short.certificate.proven
    assert 0 < short.certificate.error_probability < 1e-12


@pytest.mark.parametrize(
    ("width", "layers"), [(2, 3), (2, 4), (2, 5), (3, 2), (3, 3), (3, 4), (4, 3), (4, 4), (10, 4)]
)
def test_equal_widths(width, layers):
    # Finkel, Rodriguez, Wu and Yahl (2024): the activation threshold is 1. (3, 3, 3) has 2 layers.
    widths = (width,) * layers
    found = neurovariety_dimension(widths, 2)
    steps = layers - 1
    assert found.dimension == steps * width**2 - (steps - 1) * width
    assert found.certificate.proven


def test_a_higher_degree_is_not_defective():
    assert [neurovariety_dimension((3, 2, 1), degree).dimension for degree in (2, 3)] == [5, 6]


@pytest.mark.parametrize("widths", [(5, 2, 4), (3, 4, 3), (4, 1, 2, 5), (6, 3)])
def test_degree_one_gives_matrices_of_bounded_rank(widths):
    r = min(widths)
    assert neurovariety_dimension(widths, 1).dimension == r * (widths[0] + widths[-1] - r)


@pytest.mark.parametrize(
    ("widths", "degree", "bias"),
    [
        ((3, 2, 1), 2, False),
        ((3, 3, 2, 1), 2, False),
        ((4, 4, 4, 1), 2, False),
        ((2, 3, 2), 3, False),
        ((2, 3, 1), 2, True),
        ((3, 2, 2, 1), 2, True),
        ((2, 2, 3, 2), 2, True),
    ],
)
def test_the_rank_in_double_precision_is_the_same(widths, degree, bias):
    torch.manual_seed(0)
    data = Samples(torch.randn(80, widths[0]))
    floats = functional_dimension(network(widths, degree, bias), data)
    assert floats.gap > 1e6
    found = neurovariety_dimension(widths, degree, bias=bias)
    assert found.dimension == floats.rank
    assert found.n_parameters == floats.n_parameters


@pytest.mark.parametrize(
    ("widths", "bias"), [((2, 2, 1), False), ((3, 2, 1), False), ((2, 1, 1), True)]
)
def test_the_rank_of_symbolic_coefficients_is_the_same(widths, bias):
    x = list(sympy.symbols(f"x:{widths[0]}"))
    values, parameters = sympy.Matrix(x), []
    for layer, (below, above) in enumerate(pairwise(widths)):
        weight = sympy.Matrix(
            above, below + bias, sympy.symbols(f"w{layer}_:{above * (below + bias)}")
        )
        parameters += list(weight)
        values = weight * values.col_join(sympy.ones(1, 1)) if bias else weight * values
        values = values.applyfunc(lambda v: v**2) if layer < len(widths) - 2 else values
    coefficients = sympy.Matrix(sympy.Poly(values[0], *x).coeffs())
    jacobian = coefficients.jacobian(parameters)
    numbers = {symbol: 3 + 7 * i % 11 + i for i, symbol in enumerate(parameters)}
    found = neurovariety_dimension(widths, 2, bias=bias)
    assert found.dimension == jacobian.subs(numbers).rank()
    assert found.ambient >= len(coefficients)


def test_the_seed_changes_nothing_but_the_points():
    one, other = (neurovariety_dimension((3, 3, 2, 1), 2, seed=seed) for seed in (0, 1))
    assert one == other


@pytest.mark.parametrize(
    ("widths", "degree", "message"),
    [
        ((3,), 2, r"at least two numbers of at least 1, got \(3,\)"),
        ((3, 0, 1), 2, r"at least 1, got \(3, 0, 1\)"),
        ((3, 2, 1), 0, "degree must be at least 1, got 0"),
        ((2,) * 40, 2, r"degree 2\^38, beyond the primes"),
    ],
)
def test_bad_input_is_refused(widths, degree, message):
    with pytest.raises(ValueError, match=message):
        neurovariety_dimension(widths, degree)


def test_what_does_not_fit_in_memory_is_refused_before_it_starts():
    with pytest.raises(MemoryError, match=r"the Jacobian of a network of widths .* needs about"):
        neurovariety_dimension((10**4, 10**4, 10**4), 2)
