"""Tropical polynomials and rational functions against counts of zonotopes and the networks."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe.tropical import TropicalPolynomial, tropical_form
from geomprobe.tropical.redundancy import _by_hull, _by_programs, essential_terms


def mlp(*widths, seed=0):
    torch.manual_seed(seed)
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def up_to(n, d):
    return sum(math.comb(n, i) for i in range(d + 1))


@pytest.mark.parametrize(("d", "n"), [(1, 4), (2, 5), (2, 9), (3, 6), (4, 6), (8, 7)])
def test_one_hidden_layer_is_a_zonotope(d, n):
    """Zaslavsky (1975): n hyperplanes cut R^d into sum C(n, i) cells, and 2 sum C(n - 1, i) of them
    are unbounded: the vertices of a zonotope of n generators. One monomial each."""
    model = mlp(d, n, 1)
    with torch.no_grad():
        model[2].weight.abs_()
    form = tropical_form(model, torch.zeros(d).double())
    ((positive, negative),) = form.n_terms
    assert (positive, negative) == (up_to(n, d), 1)
    assert len(form.positive[0].newton_polytope()) == 2 * up_to(n - 1, d - 1)
    assert form.verified


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_hull_and_linear_programs_agree(d):
    rng = np.random.default_rng(d)
    # Many are redundant: below a paraboloid, on it, twice on it, and beyond the sides.
    slopes = rng.standard_normal((40, d))
    constants = -np.square(slopes).sum(axis=1)
    a = np.concatenate([slopes, slopes[:5], slopes[:9] / 2, rng.uniform(-3, 3, (6, d))])
    c = np.concatenate([constants, constants[:5] - 0.1, constants[:9] / 2 - 1, np.full(6, -90.0)])
    a, c = (a - a.mean(axis=0)) / 5, (c - c.mean()) / 100
    by_hull, vertices = _by_hull(a, c)
    by_programs, inside = _by_programs(a, c)
    np.testing.assert_array_equal(by_hull, by_programs)
    assert set(range(5, 40)) <= set(by_hull)
    assert not set(range(40, 54)) & set(by_hull)
    np.testing.assert_array_equal((inside @ a.T + c).argmax(axis=1), by_programs)
    heights = np.sort(vertices @ a.T + c, axis=1)
    # At a vertex d + 1 functions are the largest.
    np.testing.assert_allclose(heights[:, -1] - heights[:, -d - 1], 0, atol=1e-9)
    assert set((rng.standard_normal((2000, d)) @ a.T + c).argmax(axis=1)) <= set(by_hull)


def test_more_dimensions_than_a_hull_takes():
    """In general position n <= d hyperplanes have all 2^n cells."""
    model = mlp(7, 6, 1)
    with torch.no_grad():
        model[2].weight.abs_()
    assert len(tropical_form(model, torch.zeros(7).double()).positive[0]) == 2**6


def test_what_is_never_the_only_largest_is_redundant():
    # x lies below max(0, 2 x) but at 0, and equal functions count once.
    slopes, constants = np.array([[0.0], [1.0], [2.0], [2.0]]), np.zeros(4)
    polynomial = TropicalPolynomial(slopes, constants)
    reduced = polynomial.reduced()
    np.testing.assert_array_equal(np.sort(reduced.slopes[:, 0]), [0, 2])
    x = np.linspace(-2, 2, 9)[:, None]
    np.testing.assert_array_equal(reduced(x), np.maximum(0, 2 * x[:, 0]))
    assert len(essential_terms(np.zeros((3, 2)), np.arange(3.0))[0]) == 1


def test_newton_polytope_of_a_tropical_line():
    """max(x, y, 0), with a monomial inside the triangle that counts nonetheless."""
    slopes = np.array([[1.0, 0], [0, 1], [0, 0], [1 / 3, 1 / 3]])
    line = TropicalPolynomial(slopes, np.array([0.0, 0, 0, 0.5]))
    assert len(line.reduced()) == 4
    assert {tuple(v) for v in line.newton_polytope()} == {(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)}


class Everything(nn.Module):
    """Skips, leaks, pools, concatenates, folds and clips."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second, self.last = nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(2, 2)

    def forward(self, x):
        h = torch.relu(self.first(x))
        h = h + nn.functional.leaky_relu(self.second(h), 0.1)
        h = nn.functional.max_pool1d(h[:, None], 2)[:, 0]
        h = torch.cat([h[:, :1].clamp(-0.5, 0.5), -h[:, 1:].abs()], 1)
        return self.last(torch.minimum(h, h.flip(1)))


@pytest.mark.parametrize(
    ("model", "sample"),
    [
        (mlp(2, 6, 5, 3), torch.zeros(2).double()),
        (mlp(2, 4, 4, 3, 1), torch.zeros(2).double()),
        (Everything(), torch.zeros(2)),
        (
            nn.Sequential(nn.Conv1d(1, 2, 2), nn.BatchNorm1d(2), nn.PReLU(), nn.MaxPool2d((1, 2))),
            torch.zeros(1, 3),
        ),
    ],
    ids=["mlp", "deep", "everything", "convolution"],
)
def test_form_is_the_network(model, sample):
    form = tropical_form(model, sample)
    assert form.verified
    x = torch.randn(500, *sample.shape, dtype=torch.float64)
    with torch.no_grad():
        expected = model.double().eval()(x).flatten(1).numpy()
    np.testing.assert_allclose(form(x.flatten(1).numpy()), expected, atol=1e-6)


def test_a_form_of_another_network_is_not_verified():
    from geomprobe.tropical.inputs import as_batch
    from geomprobe.tropical.rational import _deviation
    from geomprobe.tropical.recording import record

    form = tropical_form(mlp(2, 5, 1), torch.zeros(2).double())
    other = record(mlp(2, 5, 1, seed=1), as_batch(torch.zeros(2).double()))
    assert _deviation(form, other, (1, 2), 0) > 1e-3


def test_decision_boundary_lies_on_the_tropical_hypersurface():
    """Zhang, Naitzat and Lim (2018), proposition 6.1."""
    model = mlp(2, 6, 4, 2)
    form = tropical_form(model, torch.zeros(2).double())
    polynomial = form.decision_boundary(0, 1)

    def margin(points):
        with torch.no_grad():
            return (model(torch.from_numpy(points)) @ torch.tensor([1.0, -1]).double()).numpy()

    ends = 5 * np.random.default_rng(0).standard_normal((2, 1000, 2))
    signs = np.sign([margin(end) for end in ends])
    low, high = ends[:, signs[0] != signs[1]]
    assert len(low) > 20
    for _ in range(60):
        middle = (low + high) / 2
        same = (np.sign(margin(middle)) == np.sign(margin(low)))[:, None]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    heights = np.sort(low @ polynomial.slopes.T + polynomial.constants, axis=1)
    np.testing.assert_allclose(heights[:, -1], heights[:, -2], atol=1e-9)
    one = form.decision_boundary(0)
    np.testing.assert_allclose(
        one(low), np.maximum(form.positive[0](low), form.negative[0](low)), atol=1e-12
    )


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (mlp(2, 20, 20, 1), {"max_terms": 300}, r"at 3 has \d+ monomials or more, over .* 300"),
        (mlp(6, 4, 1), {"max_terms": 0}, "max_terms must be at least 1"),
        (nn.Sequential(nn.Linear(6, 3), nn.GELU()), {}, "GELU"),
    ],
    ids=["large", "no terms", "smooth"],
)
def test_bad_input(model, options, message):
    with pytest.raises(ValueError, match=message):
        weight = next(model.parameters())
        tropical_form(model, torch.zeros(weight.shape[1], dtype=weight.dtype), **options)


def test_picture():
    from matplotlib import pyplot

    form = tropical_form(mlp(2, 5, 1), torch.zeros(2).double())
    assert "monomials" in form.decision_boundary().plot().get_title()
    pyplot.close("all")
    with pytest.raises(ValueError, match="takes 2 variables"):
        tropical_form(mlp(3, 4, 1), torch.zeros(3).double()).positive[0].plot()
