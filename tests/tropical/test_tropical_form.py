"""Tropical polynomials and rational functions against counts of zonotopes and the networks."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from geomprobe.tropical import TropicalPolynomial, slice_regions, tropical_form
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
    assert _deviation(form, other, torch.zeros(1, 1, 2), 0) > 1e-3


def test_a_form_that_is_wrong_in_a_small_cell_is_not_verified():
    """Random inputs do not fall into it, but the other monomials have a vertex there."""
    from geomprobe.tropical.inputs import as_batch
    from geomprobe.tropical.rational import ROUNDING, _deviation
    from geomprobe.tropical.recording import record

    model, sample = mlp(2, 3, 1), torch.zeros(2).double()
    with torch.no_grad():  # All three are on in the triangle x > 7, y > 5, x + y < 12.001.
        model[0].weight.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, -1]]))
        model[0].bias.copy_(torch.tensor([-7, -5, 12.001]).double())
        model[2].weight.fill_(1.0)
    form = tropical_form(model, sample)
    assert form.verified
    polynomial = form.positive[0]
    others = np.abs(polynomial.slopes).max(axis=1) > 0
    assert others.sum() == len(polynomial) - 1 == 6
    fewer = TropicalPolynomial(polynomial.slopes[others], polynomial.constants[others])
    wrong = dataclasses.replace(form, positive=(fewer,))
    x = 10 * np.random.default_rng(1).standard_normal((1000, 2))
    np.testing.assert_array_equal(wrong(x), form(x))
    assert _deviation(wrong, record(model, as_batch(sample)), torch.zeros(1, 1, 2), 0) > ROUNDING


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


# --- hypersurfaces in the plane -----------------------------------------------------------------


def test_a_tropical_line_has_three_rays():
    """max(x, y, 0) bends on the diagonal and on both negative half-axes."""
    line = TropicalPolynomial(np.array([[1, 0], [0, 1], [0, 0]]), np.zeros(3))
    ends, pairs = line.hypersurface((-2.0, 2.0))
    found = {
        tuple(pair): {tuple(end) for end in segment}
        for pair, segment in zip(pairs.tolist(), ends.round(12) + 0.0, strict=True)
    }
    assert found == {
        (0, 1): {(0.0, 0.0), (2.0, 2.0)},
        (0, 2): {(0.0, 0.0), (0.0, -2.0)},
        (1, 2): {(0.0, 0.0), (-2.0, 0.0)},
    }


def test_a_hypersurface_is_a_planar_graph_with_a_cell_a_monomial():
    """F = E - V + 1 inside a box that holds every vertex, whose border the rays end on."""
    slopes = np.random.default_rng(1).standard_normal((30, 2))
    polynomial = TropicalPolynomial(slopes, -np.square(slopes).sum(axis=1))
    ends, pairs = polynomial.hypersurface((-1e3, 1e3))
    heights = ends @ slopes.T + polynomial.constants
    for segment, pair in zip(heights, pairs, strict=True):
        np.testing.assert_allclose(segment[:, pair].T, [segment.max(axis=1)] * 2, rtol=1e-9)
    inner = np.unique(ends.reshape(-1, 2).round(6), axis=0)
    rays = int((np.abs(ends) > 999).any(axis=2).sum())
    assert rays == len(polynomial.newton_polytope())
    # The border adds its corners, and as many edges as corners and ends of rays.
    vertices, edges = len(inner) + 4, len(ends) + rays + 4
    assert edges - vertices + 1 == len(polynomial) == 30


@pytest.mark.parametrize(("one", "other"), [(0, None), (0, 1)])
def test_boundary_segments_are_those_of_the_slice(one, other):
    """An independent way: polygons of the network in the plane, cut where outputs are equal."""
    model = mlp(2, 7, 5, 2 if other else 1, seed=2)
    with torch.no_grad():  # The boundary goes through a point near the middle.
        model[-1].bias -= model(torch.full((1, 2), 0.1).double())[0]
    found = tropical_form(model, torch.zeros(2).double()).boundary_segments(one, other, box=(-2, 2))
    corners = torch.tensor([[-2.0, -2], [2, -2], [-2, 2]]).double()
    exact = slice_regions(model, *corners, margin=0).decision_boundary()
    assert len(found)
    lengths = [np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).sum() for ends in (found, exact)]
    assert lengths[0] == pytest.approx(lengths[1])
    with torch.no_grad():
        outputs = model(torch.from_numpy(found.mean(axis=1))).numpy()
    np.testing.assert_allclose(outputs[:, 0], outputs[:, 1] if other else 0, atol=1e-9)


def test_integer_weights_give_integer_exponents():
    """Tropical polynomials in the sense of Zhang, Naitzat and Lim (2018)."""
    model = mlp(2, 4, 3, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((5 * parameter).round())
    form = tropical_form(model, torch.zeros(2).double())
    for polynomial in (*form.positive, *form.negative):
        np.testing.assert_array_equal(polynomial.slopes, polynomial.slopes.round())
        np.testing.assert_array_equal(polynomial.constants, polynomial.constants.round())
    x = np.random.default_rng(0).integers(-50, 50, (200, 2)).astype(float)
    with torch.no_grad():
        np.testing.assert_array_equal(form(x), model(torch.from_numpy(x)).numpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: TropicalPolynomial(np.zeros((2, 3)), np.zeros(3)), r"got \(2, 3\) and \(3,\)"),
        (lambda f: TropicalPolynomial(np.zeros((0, 3)), np.zeros(0)), "one monomial"),
        (lambda f: TropicalPolynomial([[np.nan]], [0.0]), "NaN or infinity"),
        (lambda f: f.positive[0](np.zeros(2)), r"points must have shape \(n, 2\), got \(2,\)"),
        (lambda f: f(np.zeros((4, 3))), r"points must have shape \(n, 2\), got \(4, 3\)"),
        (lambda f: f.decision_boundary(0, 2), "no output 2: there are 2, from 0 on"),
        (lambda f: f.decision_boundary(-1), "no output -1"),
        (lambda f: f.boundary_segments(1, 1), "output 1 has no boundary with itself"),
        (lambda f: f.boundary_segments(box=(1.0, 1.0)), "low < high"),
        (lambda f: f.boundary_segments(box=(0.0, np.inf)), "must be a finite range"),
    ],
)
def test_bad_polynomials_and_boxes(call, message):
    with pytest.raises(ValueError, match=message):
        call(tropical_form(mlp(2, 3, 2), torch.zeros(2).double()))
