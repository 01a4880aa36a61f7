import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from geomprobe.topology.metrics import (
    euclidean_distances,
    loss_pseudometric,
    zero_one_pseudometric,
)


@given(st.integers(0, 10**6), st.integers(2, 90), st.integers(1, 40), st.sampled_from("nwdcf"))
@settings(max_examples=60, deadline=None)
def test_distances_are_those_of_scipy_to_the_last_digits(seed, n, d, kind):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d))
    if kind == "w":  # a walk far from the origin
        points = 1e3 + 1e-3 * np.cumsum(points, axis=0)
    if kind == "d":
        points = np.repeat(points, 2, axis=0)
    if kind == "c":
        points += 1e4 * rng.integers(0, 3, (n, 1))
    if kind == "f":
        points = 1e3 + 1e-3 * points
    ours, theirs = euclidean_distances(points), squareform(pdist(points))
    assert np.array_equal(ours, ours.T)
    assert np.allclose(ours, theirs, rtol=1e-9, atol=0)


def test_iterates_by_their_losses():
    losses = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 5.0], [1.0, 0.0, 2.0]])
    expected = np.array([[0, 1, 2 / 3], [1, 0, 5 / 3], [2 / 3, 5 / 3, 0]])
    assert np.allclose(loss_pseudometric(losses), expected)


def test_iterates_by_their_predictions():
    predictions = [[0, 1, 2, 2], [0, 1, 2, 1], [1, 1, 0, 1]]
    expected = np.array([[0, 1, 3], [1, 0, 2], [3, 2, 0]]) / 4
    assert np.allclose(zero_one_pseudometric(predictions), expected)


@pytest.mark.parametrize("metric", [loss_pseudometric, zero_one_pseudometric])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 2.0]], "two iterates or more"),
        ([1.0, 2.0], "shape"),
        ([[1.0], [np.nan]], "1 of the"),
        ([["a"], ["b"]], "must be numbers"),
    ],
)
def test_what_is_no_table_of_samples_is_refused(metric, values, message):
    with pytest.raises(ValueError, match=message):
        metric(values)
