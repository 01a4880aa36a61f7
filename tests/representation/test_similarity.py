import numpy as np
import pytest
from scipy.spatial import procrustes as scipy_procrustes

from geomprobe.representation import cka, cka_matrix, procrustes


def pair(seed=0, n=60):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 8))
    return X, X @ rng.normal(size=(8, 5)) + rng.normal(size=(n, 5))


def transformed(X, seed=1):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(X.shape[1],) * 2))[0]
    return 3 * X @ rotation - 5.0


@pytest.mark.parametrize("debiased", [True, False])
def test_cka_sees_no_rotation_scale_or_shift(debiased):
    X, Y = pair()
    assert cka(X, transformed(X), debiased=debiased).value == pytest.approx(1)
    expected = cka(X, Y, debiased=debiased).value
    assert cka(X, transformed(Y), debiased=debiased).value == pytest.approx(expected)
    assert cka(Y, X, debiased=debiased).value == pytest.approx(expected)


def test_the_plain_alignment_by_features():
    # Kornblith et al. (2019), equation 4.
    X, Y = (one - one.mean(axis=0) for one in pair())
    expected = np.linalg.norm(X.T @ Y) ** 2
    expected /= np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)
    assert cka(X, Y, debiased=False).value == pytest.approx(expected)


def test_the_debiased_alignment_by_four_distinct_samples():
    # Song et al. (2012), the U-statistic over all quadruples without repetition.
    X, Y = pair(n=7)
    K, L = X @ X.T, Y @ Y.T

    def hsic(K, L):
        from itertools import permutations

        terms = [
            K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q]) for i, j, q, r in permutations(range(7), 4)
        ]
        return np.mean(terms)

    expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    assert cka(X, Y).value == pytest.approx(expected)


def test_independent_representations_are_alike_only_to_the_plain_one():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(100, 200)), rng.normal(size=(100, 200))
    found = cka(X, Y)
    assert abs(found.value) < 3 * found.stderr
    assert cka(X, Y, debiased=False).value > 0.5


def test_batches_estimate_the_same():
    X, Y = pair(n=600)
    whole, found = cka(X, Y), cka(X, Y, batch_size=100)
    assert found.value == pytest.approx(whole.value, abs=3 * whole.stderr)
    assert cka(X, Y, batch_size=600).value == pytest.approx(whole.value)


@pytest.mark.parametrize("measure", [cka, procrustes])
def test_the_standard_error_is_the_spread_over_samples(measure):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(8, 5))
    values, errors = [], []
    for _ in range(40):
        X = rng.normal(size=(60, 8))
        found = measure(X, X @ mixing + rng.normal(size=(60, 5)))
        values.append(found.value)
        errors.append(found.stderr)
    assert 0.6 < np.mean(errors) / np.std(values) < 1.6


@pytest.mark.parametrize("debiased", [True, False])
def test_the_matrix_holds_the_alignments_of_pairs(debiased):
    X, Y = pair()
    matrix = cka_matrix([X, Y], [Y, X, X[:, :2]], debiased=debiased)
    expected = [[cka(a, b, debiased=debiased).value for b in (Y, X, X[:, :2])] for a in (X, Y)]
    np.testing.assert_allclose(matrix, expected)


def test_procrustes_is_scipys():
    X = np.random.default_rng(0).normal(size=(40, 5))
    Y = X + np.random.default_rng(1).normal(size=(40, 5))
    # Their disparity is 1 - s^2 for the sum s of singular values, and our square 2 - 2 s.
    aligned = np.sqrt(1 - scipy_procrustes(X, Y)[2])
    assert procrustes(X, Y).value == pytest.approx(np.sqrt(2 - 2 * aligned))
    assert procrustes(X, transformed(X)).value == pytest.approx(0, abs=1e-6)


def test_procrustes_of_more_dimensions_than_points():
    X, Y = np.random.default_rng(0).normal(size=(2, 12, 40))
    x, y = (one - one.mean(axis=0) for one in (X, Y))
    aligned = np.linalg.svd(x.T @ y, compute_uv=False).sum()
    aligned /= np.linalg.norm(x) * np.linalg.norm(y)
    assert procrustes(X, Y).value == pytest.approx(np.sqrt(2 - 2 * aligned))


def test_halves_on_which_a_representation_is_constant_are_left_out():
    X = np.random.default_rng(0).normal(size=(12, 2))
    found = procrustes(X, np.eye(12)[:, :1])
    assert 0 < found.stderr < 1


def test_procrustes_obeys_the_triangle_inequality():
    rng = np.random.default_rng(0)
    X, Y, Z = (rng.normal(size=(20, d)) for d in (3, 4, 5))
    direct, via = procrustes(X, Z).value, procrustes(X, Y).value + procrustes(Y, Z).value
    assert direct <= via


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X: cka(X, X[:5]), "four or more, got 10 and 5"),
        (lambda X: cka(X[:3], X[:3]), "four or more"),
        (lambda X: cka(X, X, batch_size=3), "at least 4"),
        (lambda X: cka(X, X, batch_size=5, debiased=False), "takes debiased=True"),
        (lambda X: procrustes(X, X * np.nan), "NaN or infinity"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0).normal(size=(10, 3)))
