import itertools

import numpy as np
import pytest

from geomprobe.landmarks import farthest_points


def test_the_order_on_a_line_by_hand():
    # From 0: the farthest is 10; then 4, 6 away from 10 and 4 from 0; then 7.
    points = np.array([[0.0], [10.0], [4.0], [7.0], [1.0]])
    order, radii = farthest_points(points, 5)
    assert order.tolist() == [0, 1, 2, 3, 4]
    assert radii.tolist() == [10, 4, 3, 1, 0]


def test_the_radius_covers_and_is_within_twice_the_best():
    points = np.random.default_rng(0).normal(size=(12, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    order, radii = farthest_points(points, 12)
    for k in (1, 2, 3):
        covering = distances[:, order[:k]].min(axis=1).max()
        assert radii[k - 1] == pytest.approx(covering)
        choices = itertools.combinations(range(12), k)
        best = min(distances[:, list(choice)].min(axis=1).max() for choice in choices)
        assert covering <= 2 * best
    assert sorted(order) == list(range(12))


def test_points_far_from_the_origin_keep_their_small_distances():
    points = 1e8 + np.array([[0.0], [1.0], [3.0]])
    assert farthest_points(points, 3)[1].tolist() == [3, 1, 0]


@pytest.mark.parametrize("scale", [1e-140, 1e-8, 1.0, 1e140])
@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("d", [2, 40])
def test_points_and_their_distances_give_the_same_order(scale, shift, d):
    points = np.random.default_rng(0).normal(size=(300, d))
    points = scale * (np.concatenate([points, points[:20]]) + shift)
    distances = np.stack([np.linalg.norm(points - point, axis=1) for point in points])
    order, radii = farthest_points(points, 310, start=5)
    expected, expected_radii = farthest_points(distances, 310, start=5, metric="precomputed")
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(radii, expected_radii)


@pytest.mark.parametrize(
    ("points", "k", "start", "message"),
    [
        (np.zeros(3), 1, 0, "of shape"),
        (np.array([[np.nan]]), 1, 0, "must be finite"),
        (np.zeros((3, 2)), 0, 0, "k must be at least 1"),
        (np.zeros((3, 2)), 1, 3, "an index of the 3 points"),
    ],
)
def test_bad_input_is_refused(points, k, start, message):
    with pytest.raises(ValueError, match=message):
        farthest_points(points, k, start=start)


def test_other_metrics_are_refused():
    with pytest.raises(ValueError, match="'euclidean' or 'precomputed', got 'cosine'"):
        farthest_points(np.eye(3), 1, metric="cosine")
