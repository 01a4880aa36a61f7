"""Geodesic distances on graphs that are known, and against networks of other libraries."""

import numpy as np
import pytest

from geomprobe.exceptions import MemoryEstimateError
from geomprobe.topology import betti_curve, rips_persistence
from geomprobe.topology.geodesics import geodesic_distances


def polygon(n):
    angles = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_on_a_polygon_they_count_the_steps_around():
    # The two nearest of each corner are its neighbours: the graph is the cycle of n edges.
    n = 11
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    steps = np.minimum(apart, n - apart)
    assert np.array_equal(geodesic_distances(polygon(n), 2), steps)
    side = 2 * np.sin(np.pi / n)
    weighted = geodesic_distances(polygon(n), 2, weighted=True)
    assert np.allclose(weighted, side * steps)


@pytest.mark.parametrize("n", [10, 12, 13])
def test_the_loop_of_a_cycle_dies_at_a_third_of_its_length(n):
    # Adamaszek and Adams (2017): the Rips complex of the cycle of n points by its path metric is
    # a circle from 1 until r / n reaches 1/3.
    (bar,) = rips_persistence(geodesic_distances(polygon(n), 2), metric="precomputed")[1]
    assert bar.tolist() == [1, np.ceil(n / 3)]


def test_nine_disks_in_a_square_at_the_choice_of_the_paper():
    # Data set D-I of Naitzat et al. (2020), at their 14 neighbours and 2.5 steps: nine disks, and
    # what is around them, one piece with nine holes.
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (3000, 2))
    radii = np.linalg.norm(points - np.round(points), axis=1)
    for members, expected in ((radii < 0.28, [9, 0]), (radii > 0.36, [1, 9])):
        distances = geodesic_distances(points[members][:1300], 14)
        diagrams = rips_persistence(distances, metric="precomputed", threshold=2.5)
        assert [betti_curve(dgm, [2.5])[0] for dgm in diagrams] == expected


def test_by_hand_where_only_one_counts_the_other_near():
    # 10 has no neighbour that would take it for its nearest, and is joined all the same.
    points = np.array([[0.0], [1], [3], [10]])
    assert geodesic_distances(points, 1)[0].tolist() == [0, 1, 2, 3]
    assert geodesic_distances(points, 1, weighted=True)[0].tolist() == [0, 1, 3, 10]


def test_between_components_they_are_infinite_and_so_are_their_bars():
    points = np.concatenate([polygon(8), 100 + polygon(9)])
    distances = geodesic_distances(points, 2)
    assert np.isinf(distances[:8, 8:]).all()
    assert np.isfinite(distances[:8, :8]).all()
    diagrams = rips_persistence(distances, metric="precomputed")
    assert np.isinf(diagrams[0][:, 1]).sum() == 2
    assert diagrams[1].tolist() == [[1, 3], [1, 3]]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_finds_the_same(seed, weighted):
    neighbors = pytest.importorskip("sklearn.neighbors")
    from scipy.sparse.csgraph import floyd_warshall

    points = np.random.default_rng(seed).normal(size=(60, 3))
    mode = "distance" if weighted else "connectivity"
    graph = neighbors.kneighbors_graph(points, 4, mode=mode, include_self=False)
    expected = floyd_warshall(graph.maximum(graph.T), directed=False)
    found = geodesic_distances(points, 4, weighted=weighted)
    assert np.allclose(found, expected)
    assert np.array_equal(found, found.T)


def test_duplicates_are_no_distance_apart():
    points = np.array([[0.0], [0.0], [1.0], [2.0]])
    weighted = geodesic_distances(points, 2, weighted=True)
    assert weighted[0, 1] == 0
    assert weighted[1, 3] == pytest.approx(2)
    assert geodesic_distances(points, 2)[0, 1] == 1


def test_steps_have_no_unit():
    points = np.random.default_rng(4).normal(size=(50, 2))
    assert np.array_equal(geodesic_distances(points, 5), geodesic_distances(1e6 * points + 9, 5))


def test_bad_input_is_refused(monkeypatch):
    for k in (0, 11):
        with pytest.raises(ValueError, match="k must be from 1 to 10"):
            geodesic_distances(polygon(11), k)
    with pytest.raises(ValueError, match="NaN or infinity"):
        geodesic_distances(np.full((20, 2), np.nan))
    monkeypatch.setattr("geomprobe.memory.available_bytes", lambda: 100)
    with pytest.raises(MemoryEstimateError, match="geodesic distances of 11 points"):
        geodesic_distances(polygon(11), 2)
