"""Decompositions of tensors with known ranks, and networks that are symmetric tensors."""

from string import ascii_lowercase

import numpy as np
import pytest
import sympy

from geomprobe.algebraic import (
    ShallowPolynomial,
    border_rank_scan,
    cp_decomposition,
    depth_efficiency,
    generic_rank,
    hierarchical_tucker_ranks,
    polynomial_network,
    symmetric_tensor,
)
from geomprobe.algebraic.depth_efficiency import _vandermonde_inverse


def sum_of_terms(shape, rank, seed=0):
    rng = np.random.default_rng(seed)
    letters = ascii_lowercase[: len(shape)]
    factors = [rng.normal(size=(size, rank)) for size in shape]
    return np.einsum(",".join(f"{letter}z" for letter in letters) + f"->{letters}", *factors)


def w_state():
    """A tensor a a b + a b a + b a a of rank 3 and border rank 2 (de Silva and Lim, 2008)."""
    a, b = np.eye(2)
    terms = ((a, a, b), (a, b, a), (b, a, a))
    return sum(np.einsum("i,j,k->ijk", *term) for term in terms)


@pytest.mark.parametrize(
    ("shape", "rank"),
    [((4, 5, 3), 3), ((3, 3, 3), 4), ((2, 3, 4, 2), 2), ((5, 6), 3), ((2, 2, 2), 1)],
)
def test_tensors_of_known_rank_are_taken_apart(shape, rank):
    tensor = sum_of_terms(shape, rank)
    found = cp_decomposition(tensor, rank)
    assert found.relative_error < 1e-8
    np.testing.assert_allclose(found.tensor(), tensor, atol=1e-7)
    for factor in found.factors:
        np.testing.assert_allclose(np.linalg.norm(factor, axis=0), 1)
    assert (np.diff(found.weights) <= 0).all()


def test_terms_are_those_planted_where_they_are_unique():
    # Kruskal (1977): three factors of full column rank.
    rng = np.random.default_rng(0)
    factors = [np.linalg.qr(rng.normal(size=(4, 3)))[0] for _ in range(3)]
    weights = np.array([3.0, 2.0, 1.0])
    found = cp_decomposition(np.einsum("z,iz,jz,kz->ijk", weights, *factors), 3)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-7)
    for factor, planted in zip(found.factors, factors, strict=True):
        np.testing.assert_allclose(np.abs(factor.T @ planted), np.eye(3), atol=1e-7)


def test_of_a_matrix_it_is_the_singular_value_decomposition():
    matrix = np.random.default_rng(0).normal(size=(5, 4))
    values = np.linalg.svd(matrix, compute_uv=False)
    found = cp_decomposition(matrix, 2)
    expected = np.linalg.norm(values[2:]) / np.linalg.norm(values)
    assert found.relative_error == pytest.approx(expected, rel=1e-6)


def test_the_best_approximation_is_that_of_tensorly():
    decomposition = pytest.importorskip("tensorly.decomposition", reason="a peer, not installed")
    noise = np.random.default_rng(1).normal(size=(5, 4, 3))
    tensor = sum_of_terms((5, 4, 3), 2) + 0.1 * noise
    peer = decomposition.parafac(
        tensor, 2, n_iter_max=2000, init="svd", tol=1e-14, normalize_factors=True
    )
    found = cp_decomposition(tensor, 2)
    order = np.argsort(-peer.weights)
    np.testing.assert_allclose(found.weights, peer.weights[order], rtol=1e-5)
    for factor, own in zip(peer.factors, found.factors, strict=True):
        np.testing.assert_allclose((factor[:, order] * own).sum(axis=0) ** 2, 1, rtol=1e-5)
    off = np.linalg.norm(peer.to_tensor() - tensor) / np.linalg.norm(tensor)
    assert 0.01 < found.relative_error == pytest.approx(off, rel=1e-5)


def test_a_penalty_shrinks():
    tensor = sum_of_terms((3, 3, 3), 2)
    free, held = (cp_decomposition(tensor, 2, penalty=penalty) for penalty in (0.0, 0.05))
    assert held.weights.sum() < free.weights.sum()
    assert held.relative_error > free.relative_error


def test_the_alarm_rings_where_there_is_no_best_approximation():
    scan = border_rank_scan(w_state(), 2, starts=2)
    assert scan.alarm
    # Terms of size t leave an error of 1/t^2, and cost t^(2/3).
    assert scan.norm_growth == pytest.approx(10 ** (3 / 14), rel=0.01)
    assert scan.error_fall == pytest.approx(10 ** (3 / 7), rel=0.01)
    assert scan.plot().get_xlabel() == "penalty"


@pytest.mark.parametrize(
    ("tensor", "rank"),
    [(w_state(), 3), (sum_of_terms((3, 3, 3), 2), 2), (sum_of_terms((3, 3, 3), 9), 2)],
    ids=["rank three", "of that rank", "best approximation"],
)
def test_the_alarm_is_silent_where_there_is_one(tensor, rank):
    scan = border_rank_scan(tensor, rank, starts=2)
    assert not scan.alarm
    assert scan.norm_growth == pytest.approx(1, abs=0.02)


NETWORKS = [
    (4, 3, 1, 3),
    (4, 4, 2, 2),
    (3, 5, 1, 4),
    (2, 3, 1, 5),
    (5, 3, 2, 3),
    (4, 4, 1, 2),
    (3, 2, 2, 1),
]


@pytest.mark.parametrize(("inputs", "width", "outputs", "degree"), NETWORKS)
def test_a_network_is_its_tensor_and_back(inputs, width, outputs, degree):
    rng = np.random.default_rng(0)
    network = ShallowPolynomial(
        rng.normal(size=(width, inputs)), rng.normal(size=(outputs, width)), degree
    )
    tensor, x = network.tensor(), rng.normal(size=(7, inputs))
    assert tensor.shape == (outputs, *[inputs] * degree)
    applied = tensor
    for _ in range(degree):
        applied = applied @ x[0]
    np.testing.assert_allclose(applied, network(x[:1])[0])
    np.testing.assert_allclose(symmetric_tensor(network, inputs, degree), tensor, atol=1e-9)
    found = polynomial_network(tensor, width)
    assert found.relative_error < 1e-8
    np.testing.assert_allclose(found.network(x), network(x), atol=1e-6 * np.abs(network(x)).max())


def test_hidden_units_are_recovered_where_they_are_unique():
    rng = np.random.default_rng(1)
    inner = rng.normal(size=(3, 4))
    inner /= np.linalg.norm(inner, axis=1, keepdims=True)
    network = ShallowPolynomial(inner, rng.normal(size=(1, 3)), 3)
    found = polynomial_network(network.tensor(), 3).network
    cosines = np.abs(found.inner @ inner.T)
    assert (cosines.max(axis=0) > 1 - 1e-9).all()
    assert sorted(np.abs(found.outer[0])) == pytest.approx(sorted(np.abs(network.outer[0])))


@pytest.mark.parametrize(("width", "is_enough"), [(3, False), (4, True)])
def test_the_product_of_three_variables_has_rank_four(width, is_enough):
    # Carlini, Catalisano and Geramita (2012): the rank of x y z is 4.
    tensor = symmetric_tensor(lambda x: x.prod(axis=1, keepdims=True), 3, 3)
    error = polynomial_network(tensor, width, starts=4).relative_error
    assert error < 1e-8 if is_enough else error > 0.1


def test_coefficients_of_a_form_are_shared_among_their_orders():
    # x^2 y: a third at each of the three places.
    tensor = symmetric_tensor(lambda x: x[:, :1] ** 2 * x[:, 1:], 2, 3)[0]
    expected = np.zeros((2, 2, 2))
    expected[0, 0, 1] = expected[0, 1, 0] = expected[1, 0, 0] = 1 / 3
    np.testing.assert_allclose(tensor, expected, atol=1e-12)


def test_what_is_no_form_is_refused():
    with pytest.raises(ValueError, match="the function is no form of degree 3"):
        symmetric_tensor(lambda x: x[:, :1] ** 3 + x[:, :1], 2, 3)


def test_ranks_along_a_tree_of_modes():
    ranks = hierarchical_tucker_ranks(sum_of_terms((5, 5, 5, 5), 3))
    assert ranks == dict.fromkeys([(0, 1), (2, 3), (0,), (1,), (2,), (3,)], 3)
    # a b + c d pairs modes 0 with 2 and 1 with 3: cut between them it has full rank.
    paired = np.einsum("ik,jl->ijkl", np.eye(3), np.eye(3))
    ranks = hierarchical_tucker_ranks(paired)
    assert ranks[(0, 1)] == 9
    assert ranks[(0,)] == 3


@pytest.mark.parametrize("degree", [1, 3, 8])
def test_coefficients_from_values(degree):
    prime = 2**31 - 1
    coefficients = [pow(7, k + 1, prime) for k in range(degree + 1)]
    values = [sum(c * s**k for k, c in enumerate(coefficients)) for s in range(degree + 1)]
    for k, coefficient in enumerate(coefficients):
        weights = _vandermonde_inverse(degree, k, prime).astype(int).tolist()
        found = sum(weight * value for weight, value in zip(weights, values, strict=True))
        assert (found - coefficient) % prime == 0


def test_flattenings_of_a_deep_network_are_those_of_its_derivatives():
    # By hand: the rank of the flattening at k modes is the number of independent k-th derivatives.
    widths, degree = (3, 2, 2, 1), 2
    x = sympy.symbols("x:3")
    values = sympy.Matrix(x)
    for layer, (below, above) in enumerate([(3, 2), (2, 2), (2, 1)]):
        weight = sympy.Matrix(
            above, below, lambda i, j, layer=layer: [[2, -1, 3], [1, 4, -2]][i][j] + layer * j
        )
        values = weight * values
        values = values.applyfunc(lambda v: sympy.expand(v**2)) if layer < 2 else values
    form = sympy.expand(values[0])
    found = depth_efficiency(widths, degree)
    for k, rank in found.ranks.items():
        orders = [order for order in np.ndindex(*[k + 1] * 3) if sum(order) == k]
        derivatives = [sympy.Poly(form, *x) for _ in orders]
        rows = []
        for order, poly in zip(orders, derivatives, strict=True):
            for variable, times in zip(x, order, strict=True):
                for _ in range(times):
                    poly = poly.diff(variable)
            rows.append(dict(poly.terms()))
        monomials = sorted({monomial for row in rows for monomial in row})
        matrix = sympy.Matrix([[row.get(monomial, 0) for monomial in monomials] for row in rows])
        assert matrix.rank() == rank


def test_depth_saves():
    found = depth_efficiency((4, 4, 4, 1), 2)
    # Quartics in four variables: their second derivatives are all quadrics, of dimension 10.
    assert found.ranks == {1: 4, 2: 10}
    assert found.shallow_width_at_least == 10
    assert found.shallow_width_at_most == 2 * generic_rank((4,), (4,)) == 20
    assert (found.deep_parameters, found.shallow_parameters_at_least) == (36, 50)
    shallow = depth_efficiency((4, 3, 1), 2)
    assert shallow.shallow_width_at_least == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cp_decomposition(np.zeros((2, 2)), 1), "not all zero"),
        (lambda: cp_decomposition(np.ones(3), 1), "at least two modes"),
        (lambda: cp_decomposition(np.eye(2), 0), "rank must be at least 1"),
        (lambda: cp_decomposition(np.eye(2), 1, starts=0), "starts must be at least 1"),
        (lambda: cp_decomposition(np.eye(2), 1, penalty=-1.0), "penalty not negative"),
        (lambda: border_rank_scan(np.eye(2), 1), "at least three modes"),
        (lambda: border_rank_scan(w_state(), 2, starts=0), "starts must be at least 1"),
        (lambda: ShallowPolynomial(np.eye(2), np.eye(3), 2), r"got \(2, 2\) and \(3, 3\)"),
        (lambda: ShallowPolynomial(np.eye(2), np.eye(2), 0), "degree at least 1"),
        (lambda: polynomial_network(np.arange(8.0).reshape(1, 2, 2, 2), 1), "not symmetric"),
        (lambda: polynomial_network(np.full((1, 2, 2), np.nan), 1), "not finite"),
        (lambda: polynomial_network(np.ones((1, 2, 3)), 1), r"\(outputs, n, ..., n\)"),
        (lambda: polynomial_network(np.ones((1, 2, 2)), 0), "width and starts"),
        (lambda: hierarchical_tucker_ranks(np.ones(3)), "at least two modes"),
        (lambda: hierarchical_tucker_ranks(np.eye(2), tolerance=2), r"tolerance be in \(0, 1\)"),
        (lambda: depth_efficiency((3, 1), 2), "at least three numbers"),
        (lambda: depth_efficiency((3, 2, 1), 1), "degree at least 2"),
        (lambda: depth_efficiency((2,) * 40, 2), "beyond the primes"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ShallowPolynomial(np.ones((2, 100)), np.ones((1, 2)), 8).tensor(),
        lambda: depth_efficiency((30, 30, 30, 30, 1), 2),
        lambda: symmetric_tensor(lambda x: x, 20, 5),
    ],
)
def test_what_does_not_fit_in_memory_is_refused(call):
    with pytest.raises(MemoryError, match="needs about"):
        call()
