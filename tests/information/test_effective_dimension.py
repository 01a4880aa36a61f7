"""Effective dimension against closed forms and against dense determinants."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geomprobe.information import (
    effective_dimension,
    global_effective_dimension,
    resolution,
    smallest_valid_n,
)

SPECTRA = arrays(np.float64, 6, elements=st.floats(1e-3, 1e3))


def kappa(n, gamma=1.0):
    return gamma * n / (2 * math.pi * math.log(n))


@pytest.mark.parametrize("n", [19, 100, 60_000, 10**6])
@pytest.mark.parametrize("d", [1, 7])
def test_identity_fisher(n, d):
    # F = c I gives F-hat = I, and so d ln(1 + kappa) / ln kappa.
    expected = d * math.log(1 + kappa(n)) / math.log(kappa(n))
    assert effective_dimension(np.full(d, 0.3), n, n_parameters=d) == pytest.approx(expected)


def test_diagonal_fisher():
    # d_eff = sum_i ln(1 + kappa lambda-hat_i) / ln kappa, the zeros adding nothing.
    eigenvalues, d, n, gamma = np.array([5.0, 1.0, 0.1]), 10, 1797, 0.7
    k = kappa(n, gamma)
    expected = sum(math.log(1 + k * d * value / 6.1) for value in eigenvalues) / math.log(k)
    value = effective_dimension(eigenvalues, n, n_parameters=d, gamma=gamma)
    assert value == pytest.approx(expected, rel=1e-13)
    padded = np.append(eigenvalues, np.zeros(7))
    assert effective_dimension(padded, n, n_parameters=d, gamma=gamma) == pytest.approx(expected)


def test_normaliser_can_be_given():
    # F = 2 I normalised by a mean trace of 3 d is 2/3 I.
    expected = 4 * math.log(1 + kappa(100) * 2 / 3) / math.log(kappa(100))
    value = effective_dimension(np.full(4, 2.0), 100, n_parameters=4, mean_trace=12.0)
    assert value == pytest.approx(expected)


def dense_reference(fishers, n):
    """The formula as qiskit-machine-learning states it, on dense d x d matrices.

    f-hat = d F / mean tr F; log-determinants by slogdet; 2 ln(mean sqrt det) / ln kappa by a
    logsumexp over the draws. Written anew from the formula: an independent implementation.
    """
    d = fishers.shape[-1]
    normalised = d * fishers / np.trace(np.mean(fishers, axis=0))
    sign, log_determinants = np.linalg.slogdet(np.eye(d) + normalised * kappa(n))
    assert (sign > 0).all()
    exponents = log_determinants / 2
    top = exponents.max()
    return 2 * (top + math.log(np.mean(np.exp(exponents - top)))) / math.log(kappa(n))


@pytest.mark.parametrize("n", [19, 100, 1000, 100_000])
def test_global_form_equals_dense_determinants(n):
    generator = np.random.default_rng(3)
    roots = generator.normal(size=(8, 5, 12)) * generator.uniform(0.1, 3, size=(8, 1, 12))
    fishers = roots.transpose(0, 2, 1) @ roots
    spectra = [np.linalg.eigvalsh(root @ root.T) for root in roots]  # 5 of 12 are not zero
    value = global_effective_dimension(spectra, n, n_parameters=12)
    assert value == pytest.approx(dense_reference(fishers, n), rel=1e-12)


def fishers_of_inputs(draws=4, inputs=6, d=5):
    """A Fisher matrix of rank 2 for each input at each draw, of shape (draws, inputs, d, d)."""
    generator = np.random.default_rng(3)
    count = draws * inputs
    roots = generator.normal(size=(count, 2, d)) * generator.uniform(0.1, 3, size=(count, 1, d))
    return (roots.transpose(0, 2, 1) @ roots).reshape(draws, inputs, d, d)


#: What qiskit-machine-learning 0.9.1 (qiskit 2.6.2) gives for them at n = 100, 1000 and 100000, by
#: EffectiveDimension.get_normalized_fisher and _get_effective_dimension: all four draws, and one.
QISKIT = {
    4: [5.49150241929622, 4.703178702950808, 4.821417003823331],
    1: [5.2568386076374765, 4.540846121206669, 4.740912233018848],
}


@pytest.mark.parametrize("draws", QISKIT)
def test_effective_dimension_is_that_of_qiskit(draws):
    means = fishers_of_inputs()[:draws].mean(axis=1)
    found = global_effective_dimension(
        np.linalg.eigvalsh(means), [100, 1000, 100_000], n_parameters=5
    )
    np.testing.assert_allclose(found, QISKIT[draws], rtol=1e-12)
    if draws == 1:
        (spectrum,) = np.linalg.eigvalsh(means)
        local = effective_dimension(spectrum, [100, 1000, 100_000], n_parameters=5)
        np.testing.assert_allclose(local, QISKIT[1], rtol=1e-12)


@pytest.mark.parametrize("draws", QISKIT)
def test_qiskit_gives_them_still(draws):
    networks = pytest.importorskip("qiskit_machine_learning.neural_networks")
    # Without its model, of which the formula takes the number of weights alone.
    peer = networks.EffectiveDimension.__new__(networks.EffectiveDimension)
    peer._model = SimpleNamespace(num_weights=5)
    peer._num_weight_samples, peer._num_input_samples = draws, 6
    normalised, _ = peer.get_normalized_fisher(fishers_of_inputs()[:draws].reshape(-1, 5, 5))
    found = peer._get_effective_dimension(normalised, [100, 1000, 100_000])
    np.testing.assert_allclose(found, QISKIT[draws], rtol=1e-12)


def test_global_normaliser_is_the_trace_averaged_over_draws():
    spectra = [np.array([1.0, 2.0]), np.array([10.0])]
    k = kappa(1000)
    scale = k * 3 / 6.5
    volumes = [math.sqrt((1 + scale) * (1 + 2 * scale)), math.sqrt(1 + 10 * scale)]
    expected = 2 * math.log(sum(volumes) / 2) / math.log(k)
    assert global_effective_dimension(spectra, 1000, n_parameters=3) == pytest.approx(expected)


@given(SPECTRA, st.integers(1, 5), st.integers(19, 10**6))
def test_equal_draws_give_the_local_form(spectrum, draws, n):
    local = effective_dimension(spectrum, n, n_parameters=9)
    value = global_effective_dimension([spectrum] * draws, n, n_parameters=9)
    assert value == pytest.approx(local, rel=1e-12)


@given(SPECTRA, st.floats(1e-6, 1e6), st.integers(19, 10**6))
def test_scale_of_the_fisher_does_not_matter(spectrum, scale, n):
    value = effective_dimension(spectrum, n, n_parameters=6)
    assert effective_dimension(scale * spectrum, n, n_parameters=6) == pytest.approx(value)


@given(SPECTRA, st.integers(19, 10**6))
def test_equal_eigenvalues_have_the_most(spectrum, n):
    # ln det is concave at fixed trace.
    most = effective_dimension(np.ones(6), n, n_parameters=6)
    assert effective_dimension(spectrum, n, n_parameters=6) <= most * (1 + 1e-12)


def test_huge_models_do_not_overflow():
    # 10^6 equal eigenvalues: the determinant is e^(10^7).
    value = global_effective_dimension([np.ones(10**6)] * 2, 10**6, n_parameters=10**6)
    expected = 10**6 * math.log(1 + kappa(10**6)) / math.log(kappa(10**6))
    assert value == pytest.approx(expected)


def test_many_n_at_once():
    n = np.array([[19, 100], [1000, 10**6]])
    values = effective_dimension([1.0, 2.0], n, n_parameters=5)
    assert values.shape == n.shape
    one_by_one = [effective_dimension([1.0, 2.0], int(m), n_parameters=5) for m in n.ravel()]
    np.testing.assert_allclose(values.ravel(), one_by_one, rtol=1e-14)


def test_it_diverges_as_kappa_falls_to_one_and_is_not_monotone_in_n():
    values = effective_dimension([1.0, 2.0], [19, 300, 10**8], n_parameters=50)
    assert values[0] > 2 * values[1]
    assert values[0] > 50  # more than there are parameters


def test_at_gamma_one_nineteen_data_are_the_fewest():
    # 18 / (2 pi ln 18) = 0.9911 and 19 / (2 pi ln 19) = 1.0270.
    assert smallest_valid_n() == 19
    assert resolution(19) == pytest.approx(1.0270017, rel=1e-7)
    assert math.isfinite(effective_dimension([1.0], 19, n_parameters=1))
    for n in (2, 10, 17, 18):
        with pytest.raises(ValueError, match=rf"n = {n}, gamma = 1.*smallest n .* is 19"):
            effective_dimension([1.0], n, n_parameters=1)


def test_message_names_kappa_and_the_worst_n():
    with pytest.raises(ValueError, match=r"n = 18, .*= 0\.9911"):
        effective_dimension([1.0], [100, 18, 1000], n_parameters=1)


@given(st.floats(1e-5, 1.0))
def test_smallest_valid_n_is_the_smallest(gamma):
    n = smallest_valid_n(gamma)
    assert kappa(n, gamma) > 1 >= kappa(n - 1, gamma)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 1}, "at least 2"),
        ({"n": 0}, "at least 2"),
        ({"n": -100}, "at least 2"),
        ({"n": math.nan}, "at least 2"),
        ({"n": []}, "at least 2"),
        ({"gamma": 0.0}, "gamma must lie"),
        ({"gamma": 1.1}, "gamma must lie"),
        ({"gamma": math.nan}, "gamma must lie"),
        ({"n_parameters": 0}, "n_parameters"),
        ({"eigenvalues": [math.nan]}, "finite"),
        ({"eigenvalues": [[1.0]]}, "finite"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    given = {"eigenvalues": [1.0], "n": 100, "n_parameters": 1} | arguments
    with pytest.raises(ValueError, match=message):
        effective_dimension(**given)


def test_no_draw_is_refused():
    with pytest.raises(ValueError, match="no spectrum"):
        global_effective_dimension([], 100, n_parameters=1)


def test_a_zero_fisher_has_none():
    assert math.isnan(effective_dimension([0.0], 100, n_parameters=3))
    assert np.isnan(effective_dimension([], [100, 200], n_parameters=3)).all()
