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
