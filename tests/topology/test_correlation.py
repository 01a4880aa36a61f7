"""Functional correlation of neurons that are known to be related."""

import numpy as np
import pytest

from geomprobe.exceptions import MemoryEstimateError
from geomprobe.topology.correlation import correlation_distances, correlation_persistence


def test_numpy_finds_the_same_correlations():
    A = np.random.default_rng(0).normal(size=(30, 7)) * 10.0 ** np.arange(-3, 4)
    distances, neurons, constant = correlation_distances(A)
    assert np.allclose(distances, 1 - np.abs(np.corrcoef(A.T)), atol=1e-12)
    assert neurons.tolist() == list(range(7))
    assert len(constant) == 0


def test_affine_images_coincide_and_constants_are_left_out():
    x, y = np.random.default_rng(1).normal(size=(2, 40))
    A = np.stack([x, np.full(40, 0.1), y, 3 - 2 * x, np.zeros(40), 1e-200 * y + 1e-200], axis=1)
    distances, neurons, constant = correlation_distances(A)
    assert neurons.tolist() == [0, 2, 3, 5]
    assert constant.tolist() == [1, 4]
    assert distances[0, 2] == pytest.approx(0, abs=1e-12)
    assert distances[1, 3] == pytest.approx(0, abs=1e-12)
    assert np.array_equal(distances, distances.T)
    assert not np.diag(distances).any()


def test_what_rounding_leaves_of_a_constant_is_a_constant():
    A = np.random.default_rng(2).normal(size=(1000, 3))
    A[:, 1] = np.float32(0.1) + 1e-16 * A[:, 0]
    assert correlation_distances(A).constant.tolist() == [1]


def test_independent_neurons_are_as_near_as_chance_has_it():
    # |correlation| of n Gaussian samples has mean about sqrt(2 / pi n).
    distances = correlation_distances(np.random.default_rng(3).normal(size=(400, 60))).distances
    apart = distances[np.triu_indices(60, 1)]
    assert 1 - apart.mean() == pytest.approx(np.sqrt(2 / (np.pi * 400)), rel=0.05)


def test_groups_and_a_ring_show():
    rng = np.random.default_rng(4)
    sources = rng.normal(size=(2000, 3))
    groups = np.repeat(sources, 5, axis=1) + 0.1 * rng.normal(size=(2000, 15))
    lifetimes = np.sort(correlation_persistence(groups, 0).finite(0)[:, 1])
    assert len(lifetimes) == 14
    assert lifetimes[11] < 0.05
    assert lifetimes[12] > 0.9
    # Neurons tuned to directions: |correlation| is |cos|, so that opposite ones tell the same,
    # and 16 of them make a closed ring, of steps 1 - cos(pi / 16).
    angles = np.pi * np.arange(16) / 16
    ring = rng.normal(size=(20_000, 2)) @ np.stack([np.cos(angles), np.sin(angles)])
    births, deaths = correlation_persistence(ring)[1].T
    longest = np.argmax(deaths - births)
    assert births[longest] == pytest.approx(1 - np.cos(np.pi / 16), abs=0.01)
    # A loop of 16 equal steps dies at the step over a third of it, 6 of 16 (Adamaszek, Adams 2017).
    assert deaths[longest] == pytest.approx(1 - np.cos(6 * np.pi / 16), abs=0.02)


def test_bad_input_is_refused(monkeypatch):
    A = np.random.default_rng(5).normal(size=(20, 4))
    for bad in (A[0], A[:2], A[:, :0], A.astype(complex)):
        with pytest.raises(ValueError, match=r"shape \(n, d\), a row for each of 3 samples"):
            correlation_distances(bad)
    spoiled = A.copy()
    spoiled[3, 1] = np.inf
    with pytest.raises(ValueError, match="1 of 20 rows hold NaN or infinity"):
        correlation_distances(spoiled)
    with pytest.raises(ValueError, match="3 of 4 neurons are constant"):
        correlation_persistence(A * [1, 0, 0, 0])
    monkeypatch.setattr("geomprobe.memory.available_bytes", lambda: 100)
    with pytest.raises(MemoryEstimateError, match="correlations of 4 neurons"):
        correlation_distances(A)
