"""Neural persistence by hand, by an independent spanning tree, and by its bounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import minimum_spanning_tree

from geomprobe.exceptions import MemoryEstimateError
from geomprobe.topology.neural_persistence import neural_persistence, shuffled_control

# Two inputs a, b and two outputs c, d, of which 4 is the largest weight:
#   a-c 4, b-d 3, a-d 2 (signs do not matter), b-c 1.
# From 1 down: a-c joins at 4/4, b-d at 3/4, a-d at 2/4, and b-c closes a cycle.
# So bars end at 1, 3/4, 1/2 and have the lengths 0, 1/4, 1/2.
BY_HAND = np.array([[4.0, -1.0], [-2.0, 3.0]])


@pytest.mark.parametrize(
    ("p", "norm"), [(1, 3 / 4), (2, math.sqrt(5) / 4), (3, (9 / 64) ** (1 / 3)), (np.inf, 1 / 2)]
)
def test_by_hand(p, norm):
    assert neural_persistence(BY_HAND, p, normalize=False) == pytest.approx(norm)
    assert neural_persistence(BY_HAND, p) == pytest.approx(norm / 3 ** (1 / p))
    assert neural_persistence(-BY_HAND.T, p) == pytest.approx(norm / 3 ** (1 / p))


def test_the_largest_weight_is_that_of_the_network():
    # With 8 in another layer the bars end at 1/2, 3/8 and 1/4.
    expected = math.sqrt((1 / 2) ** 2 + (5 / 8) ** 2 + (3 / 4) ** 2)
    assert neural_persistence(BY_HAND, largest=8.0, normalize=False) == pytest.approx(expected)


def test_the_essential_bar_of_the_published_code():
    # src/tda.py of the paper's code ends the unpaired component at 0: one more bar of length 1.
    both = [neural_persistence(BY_HAND, normalize=False, essential=e) for e in (False, True)]
    assert both[1] ** 2 == pytest.approx(both[0] ** 2 + 1)


def test_bounds_are_reached():
    # The bounds of Rieck et al.: 0 with equal weights, and at most (n - 1)^(1/p).
    assert neural_persistence(np.full((3, 5), -0.7)) == pytest.approx(0, abs=1e-12)
    alone = np.zeros((3, 4))
    alone[1, 2] = 5
    # One of the six edges has length 0, all others 1.
    assert neural_persistence(alone, normalize=False) == pytest.approx(math.sqrt(5))
    assert neural_persistence(alone, largest=1e12) == pytest.approx(1, abs=1e-9)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 10**6))
def test_scipy_finds_the_same_tree(rows, columns, seed):
    rng = np.random.default_rng(seed)
    # Few values, for ties.
    weight = rng.integers(-3, 4, size=(rows, columns)) + 0.5
    shares = np.abs(weight) / np.abs(weight).max()
    graph = np.zeros((rows + columns,) * 2)
    graph[:rows, rows:] = 2 - shares  # No edge at 0, which scipy takes for none.
    expected = np.sqrt(((minimum_spanning_tree(graph).data - 1) ** 2).mean())
    assert neural_persistence(weight) == pytest.approx(expected, abs=1e-12)


def test_a_kernel_is_one_input_a_place_and_channel():
    kernel = np.random.default_rng(0).normal(size=(4, 3, 2, 2))
    assert neural_persistence(kernel) == neural_persistence(kernel.reshape(4, 12))


def test_units_and_precisions_do_not_matter():
    weight = np.random.default_rng(1).normal(size=(20, 30))
    assert neural_persistence(1e-30 * weight) == pytest.approx(neural_persistence(weight))
    single = neural_persistence(weight.astype(np.float32))
    assert single == pytest.approx(neural_persistence(weight), rel=1e-6)


def test_shuffled_weights_are_those_of_the_layer_and_nothing_else_is_touched():
    weight = np.random.default_rng(2).normal(size=(6, 9))
    before = weight.copy()
    control = shuffled_control(weight, shuffles=5, seed=3)
    assert np.array_equal(weight, before)
    assert control.value == neural_persistence(weight)
    rng, expected = np.random.default_rng(3), []
    flat = np.abs(weight).ravel() / np.abs(weight).max()
    for _ in range(5):
        rng.shuffle(flat)
        expected.append(neural_persistence(flat.reshape(6, 9), largest=1.0))
    assert control.shuffled == pytest.approx(expected)
    assert control.mean == pytest.approx(np.mean(expected))
    assert control.spread == pytest.approx(np.std(expected, ddof=1))
    assert control.difference == control.value - control.mean
    assert control == shuffled_control(weight, shuffles=5, seed=3)


def test_what_girrbach_found_places_matter_only_where_weights_have_them():
    rng = np.random.default_rng(4)
    # Independent weights: the value is a draw from the distribution of its own shuffles.
    scattered = shuffled_control(rng.normal(size=(60, 80)), shuffles=40)
    assert abs(scattered.difference) < 4 * scattered.spread
    # The same kind of weights, the large ones in few rows: they reach few neurons.
    scales = np.where(np.arange(60) < 6, 1.0, 0.05)[:, None]
    gathered = shuffled_control(scales * rng.normal(size=(60, 80)), shuffles=40)
    assert gathered.difference > 10 * gathered.spread


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(4), r"\(n_out, n_in, ...\).*shape \(4,\)"),
        (np.ones((0, 3)), r"not empty, got shape \(0, 3\)"),
        (np.ones((2, 2), complex), "complex128"),
        (np.array([[1, np.nan]]), "NaN or infinity"),
        (np.zeros((2, 2)), "positive and finite, got 0"),
    ],
)
@pytest.mark.parametrize("function", [neural_persistence, shuffled_control])
def test_bad_weights_are_refused(function, weight, message):
    with pytest.raises(ValueError, match=message):
        function(weight)


def test_bad_options_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="p must be at least 1"):
        neural_persistence(BY_HAND, 0.5)
    with pytest.raises(ValueError, match="got 3 where that of this layer is 4"):
        neural_persistence(BY_HAND, largest=3.0)
    with pytest.raises(ValueError, match="shuffles must be at least 2"):
        shuffled_control(BY_HAND, shuffles=1)
    monkeypatch.setattr("geomprobe.memory.available_bytes", lambda: 10)
    with pytest.raises(MemoryEstimateError, match=r"shape \(2, 2\)"):
        neural_persistence(BY_HAND)
