import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomprobe.topology import (
    Diagrams,
    betti_curve,
    longest_bar,
    persistence_entropy,
    rips_persistence,
    to_giotto,
    total_persistence,
)
from geomprobe.topology.vectorizers import betti_curves, entropies

INF = np.inf


@pytest.mark.parametrize("k", [1, 2, 7, 64])
def test_k_equal_bars_have_entropy_log2_k(k):
    assert persistence_entropy([[1, 3]] * k) == pytest.approx(math.log2(k))


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_entropy_lies_between_0_and_log2_k_and_has_no_scale(lengths, scale):
    dgm = np.stack([np.zeros(len(lengths)), lengths], axis=1)
    entropy = persistence_entropy(dgm)
    assert -1e-12 <= entropy <= math.log2(len(lengths)) + 1e-12
    assert persistence_entropy(scale * dgm) == pytest.approx(entropy, abs=1e-9)


def test_infinite_bars_count_in_the_betti_curve_alone():
    dgm = [[0, 1], [0, 3], [2, INF]]
    assert persistence_entropy(dgm) == pytest.approx(2 - 0.75 * math.log2(3))
    assert total_persistence(dgm) == 4
    assert total_persistence(dgm, alpha=2) == 10
    assert longest_bar(dgm) == 3
    # Alive where birth <= scale < death.
    assert betti_curve(dgm, [-1, 0, 0.5, 1, 2, 3, 9]).tolist() == [0, 2, 2, 1, 2, 1, 1]


def test_empty_diagrams():
    assert math.isnan(persistence_entropy([]))
    assert math.isnan(longest_bar([[0, INF]]))
    assert total_persistence([]) == 0
    assert betti_curve([], [0, 1]).tolist() == [0, 0]


def test_the_normalized_entropy_is_a_share_of_the_logarithm_of_the_sum():
    # Myers, Munch and Khasawneh (2019): four bars of length 2 have 2 bits, and their sum is 2^3.
    assert persistence_entropy([[1, 3]] * 4, normalize=True) == pytest.approx(2 / 3)
    assert math.isnan(persistence_entropy([[0, 0.5]] * 2, normalize=True))


@pytest.mark.parametrize(
    ("dgm", "message"),
    [
        (np.zeros((2, 4)), r"shape \(n, 2\).*got \(2, 4\)"),
        ([0, 1], r"shape \(n, 2\).*got \(2,\)"),
        ([[2, 1], [0, 1]], "1 of 2 bars hold NaN or die before their birth"),
        ([[0, np.nan]], "1 of 1 bars hold NaN or die before their birth"),
    ],
)
@pytest.mark.parametrize("summary", [persistence_entropy, total_persistence, longest_bar])
def test_arrays_that_are_no_diagram_are_refused(summary, dgm, message):
    with pytest.raises(ValueError, match=message):
        summary(dgm)


@pytest.mark.parametrize("seed", range(5))
def test_giotto_tda_computes_the_same(seed):
    pytest.importorskip("gtda")
    diagrams = rips_persistence(np.random.default_rng(seed).normal(size=(40, 3)))
    grid = np.linspace(0, 3, 101)
    ours, theirs = (betti_curves(diagrams, grid, giotto=g) for g in (False, True))
    assert np.array_equal(ours, theirs)
    ours, theirs = (entropies(diagrams, giotto=g) for g in (False, True))
    assert np.allclose(ours, theirs, atol=1e-10)


def test_giotto_tda_normalizes_alike():
    gtda = pytest.importorskip("gtda.diagrams")
    diagrams = rips_persistence(np.random.default_rng(0).normal(size=(40, 3)))
    theirs = gtda.PersistenceEntropy(normalize=True).fit_transform(to_giotto([diagrams]))[0]
    ours = [persistence_entropy(dgm, normalize=True) for dgm in diagrams]
    assert np.allclose(ours, theirs, atol=1e-10)


def test_giotto_tda_gives_nan_where_no_bar_dies():
    pytest.importorskip("gtda")
    diagrams = Diagrams(([[0, 1], [0, INF]], []))
    for giotto in (True, False):
        zero, none = entropies(diagrams, giotto=giotto)
        assert zero == pytest.approx(0, abs=1e-12)
        assert math.isnan(none)
