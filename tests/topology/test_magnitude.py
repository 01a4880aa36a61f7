import numpy as np
import pytest

from geomprobe.topology import magnitude
from geomprobe.topology.metrics import loss_pseudometric


def test_two_points_in_closed_form():
    # Leinster (2013), example 2.1.1: 1 + tanh(td/2).
    for t in (0.1, 1.0, 7.0):
        found = magnitude([[0.0], [2.0]], t)
        assert found.value == pytest.approx(1 + np.tanh(t * 2 / 2), rel=1e-12)
        assert found.exact


@pytest.mark.parametrize("n", [2, 5, 40])
def test_points_at_one_distance_in_closed_form(n):
    # Leinster (2013), example 2.1.6: n/(1 + (n - 1) exp(-td)).
    for t in (0.2, 1.0, 5.0):
        found = magnitude(3 * (1 - np.eye(n)), t, metric="precomputed")
        assert found.value == pytest.approx(n / (1 + (n - 1) * np.exp(-3 * t)), rel=1e-10)


def test_points_on_a_line_in_closed_form():
    # Leinster and Willerton (2013), theorem 4: 1 + sum of tanh(gap/2), and all weights positive.
    x = np.sort(np.random.default_rng(0).uniform(0, 9, 60))
    expected = 1 + np.tanh(np.diff(x) / 2).sum()
    assert magnitude(x[:, None]).value == pytest.approx(expected, rel=1e-9)
    assert magnitude(x[:, None], positive=True).value == pytest.approx(expected, rel=1e-9)


def test_the_positive_magnitude_leaves_negative_weights_out():
    # Leinster (2013), example 2.2.7: the complete bipartite graph K(3, 2) at small scale.
    one, other = np.arange(5) < 3, np.arange(5) >= 3
    distances = np.where(one[:, None] == one, 2.0, 1.0) - 2 * np.eye(5)
    scale = 0.8
    weights = np.linalg.solve(np.exp(-scale * distances), np.ones(5))
    found = magnitude(distances, scale, metric="precomputed")
    assert found.value == pytest.approx(weights.sum())
    assert weights[other].max() < 0 or weights[one].min() > 0
    positive = magnitude(distances, scale, metric="precomputed", positive=True)
    assert positive.value == pytest.approx(np.maximum(weights, 0).sum())


def test_points_that_coincide_count_as_one():
    points = np.random.default_rng(0).normal(size=(12, 3))
    twice = magnitude(np.repeat(points, 3, axis=0), 2.0)
    assert twice.value == pytest.approx(magnitude(points, 2.0).value, rel=1e-12)
    assert twice.exact


def test_from_one_to_the_number_of_points():
    points = np.random.default_rng(0).normal(size=(30, 4))
    values = [magnitude(points, t).value for t in (1e-6, 0.1, 1, 10, 1e4)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(1, abs=1e-4)
    assert values[-1] == pytest.approx(30)


def test_jitter_is_told_and_its_effect_is_the_error():
    # Two points nearer than rounding can tell: without jitter their rows are the same. By
    # continuity it is the magnitude of two points, 1 + tanh(d/2).
    for positive in (False, True):
        found = magnitude([[0.0], [1e-20], [1.0]], positive=positive)
        assert found.value == pytest.approx(1 + np.tanh(1 / 2), rel=1e-10)
        assert not found.exact
        assert "jitter of 1e-12 added to the diagonal" in found.note
        assert 0 < found.stderr < 1e-10


def test_the_loss_pseudometric_serves():
    losses = np.abs(np.random.default_rng(0).normal(size=(40, 100)))
    found = magnitude(loss_pseudometric(losses), 10.0, metric="precomputed")
    assert found.exact
    assert 1 < found.value < 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0}, "scale must be positive"),
        ({"scale": np.inf}, "scale must be positive"),
        ({"X": [[1.0, 2.0]]}, "n of at least 2"),
        ({"X": [[1.0], [np.nan]]}, "1 of 2 rows"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        magnitude(**{"X": [[0.0], [1.0]], "scale": 1.0, **options})
