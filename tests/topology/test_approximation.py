from importlib.util import find_spec

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from geomprobe.topology import bottleneck_distance, rips_persistence
from geomprobe.topology.approximation import landmark_persistence, sparse_rips_persistence

needs_gudhi = pytest.mark.skipif(find_spec("gudhi") is None, reason="gudhi is not installed")


def circle(n, rng):
    angles = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def torus(n, rng):
    a, b = rng.uniform(0, 2 * np.pi, (2, n))
    ring = 2 + np.cos(a)
    return np.stack([ring * np.cos(b), ring * np.sin(b), np.sin(a)], axis=1)


def clusters(n, rng):
    return rng.normal(size=(5, 4))[np.arange(n) % 5] * 10 + rng.normal(size=(n, 4))


CLOUDS = {"circle": circle, "torus": torus, "clusters": clusters}


@pytest.mark.parametrize("k", [10, 40])
@pytest.mark.parametrize("shape", CLOUDS)
def test_landmarks_keep_within_their_bound(shape, k):
    # Chazal, de Silva and Oudot (2014), Theorem 5.2: at most twice the Hausdorff distance.
    points = CLOUDS[shape](150, np.random.default_rng(0))
    whole, found = rips_persistence(points), landmark_persistence(points, k)
    errors = [bottleneck_distance(a, b) for a, b in zip(found, whole, strict=True)]
    assert 0 < max(errors) <= found.error_bound
    assert found.n_points == k


def test_the_bound_is_twice_the_covering_radius():
    # On a line from 0: 10, then 4, which leave 7 at a distance of 3.
    points = np.array([[0.0], [10.0], [4.0], [7.0], [1.0]])
    assert landmark_persistence(points, 3, 0).error_bound == 6
    assert landmark_persistence(points, 9, 0).error_bound == 0


def test_as_many_landmarks_as_points_change_nothing():
    points = circle(50, np.random.default_rng(0))
    found = landmark_persistence(points, 50)
    assert found.error_bound == 0
    for a, b in zip(found, rips_persistence(points), strict=True):
        np.testing.assert_allclose(np.sort(a, axis=0), np.sort(b, axis=0), rtol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "precomputed"])
def test_critical_edges_and_cocycles_name_points_of_the_cloud(metric):
    points = circle(80, np.random.default_rng(0))
    distances = cdist(points, points)
    found = landmark_persistence(
        points if metric == "euclidean" else distances,
        30,
        metric=metric,
        return_edges=True,
        return_cocycles=True,
    )
    for dgm, ends in zip(found, found.critical_edges, strict=True):
        dies = np.isfinite(dgm[:, 1])
        np.testing.assert_allclose(distances[ends[dies, 2], ends[dies, 3]], dgm[dies, 1])
    births = found.critical_edges[1][:, :2]
    np.testing.assert_allclose(distances[births[:, 0], births[:, 1]], found[1][:, 0])
    # The edge that gives birth to a class is in its cocycle or is what the others bound.
    longest = found.lifetimes(1).argmax()
    cocycle = found.cocycles[1][longest]
    assert cocycle[:, :2].max() > 30
    assert (distances[cocycle[:, 0], cocycle[:, 1]] < found[1][longest, 1]).all()


@needs_gudhi
@pytest.mark.parametrize("epsilon", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", CLOUDS)
def test_sparse_filtrations_keep_within_their_bounds(shape, epsilon):
    points = CLOUDS[shape](120, np.random.default_rng(0))
    whole, found = rips_persistence(points), sparse_rips_persistence(points, epsilon)
    for dim, (a, b) in enumerate(zip(found, whole, strict=True)):
        assert bottleneck_distance(a, b) <= found.error_bound
        # Of the logarithms, where a birth at 0 is the same for all.
        a, b = (np.log(np.where(dgm == 0, 1e-300, dgm)) for dgm in (a, b))
        assert bottleneck_distance(a, b) <= -np.log1p(-epsilon) + 1e-6, dim


@needs_gudhi
def test_a_sparse_filtration_of_many_points_runs_by_itself_and_finds_the_loop():
    points = circle(1500, np.random.default_rng(0))
    found = sparse_rips_persistence(points, 0.5)
    assert (found.engine, found.n_points) == ("gudhi", 1500)
    # Adamaszek and Adams (2017): the loop of the whole circle dies at the square root of 3.
    (loop,) = found[1][found.lifetimes(1) > 0.5]
    assert 0.5 < loop[1] / np.sqrt(3) < 2


@needs_gudhi
def test_distances_may_be_given_to_a_sparse_filtration():
    points = circle(100, np.random.default_rng(0))
    found = sparse_rips_persistence(cdist(points, points), 0.01, metric="precomputed")
    for a, b in zip(found, rips_persistence(points), strict=True):
        assert bottleneck_distance(a, b) <= found.error_bound < 0.03


@needs_gudhi
def test_a_sparse_filtration_stops_at_the_time_limit():
    points = np.random.default_rng(0).normal(size=(800, 20))
    with pytest.raises(TimeoutError):
        sparse_rips_persistence(points, 0.1, 2, time_limit=0.5)


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (landmark_persistence, {"n_landmarks": 1}, "n_landmarks must be at least 2"),
        (landmark_persistence, {"n_landmarks": 5, "threshold": 1.0}, "leave it out"),
        (landmark_persistence, {"n_landmarks": 5, "metric": "cosine"}, "'precomputed', got"),
        (landmark_persistence, {"n_landmarks": 5, "X": np.ones((9, 2))}, "points are equal"),
        (landmark_persistence, {"n_landmarks": 5, "coeff": 4}, "prime"),
        pytest.param(sparse_rips_persistence, {"epsilon": 1}, "between 0", marks=needs_gudhi),
        pytest.param(sparse_rips_persistence, {"coeff": 4}, "prime", marks=needs_gudhi),
        pytest.param(sparse_rips_persistence, {"coeff": 32771}, "up to 32749", marks=needs_gudhi),
        pytest.param(sparse_rips_persistence, {"max_dim": 1.5}, "max_dim", marks=needs_gudhi),
    ],
)
def test_bad_input_is_refused(call, options, message):
    points = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match=message):
        call(**{"X": points, **options})


def test_infinite_distances_have_no_bound():
    distances = np.full((9, 9), np.inf)
    np.fill_diagonal(distances, 0)
    with pytest.raises(ValueError, match="all distances"):
        landmark_persistence(distances, 3, metric="precomputed")


@pytest.mark.skipif(find_spec("gudhi") is not None, reason="gudhi is installed")
def test_without_gudhi_sparse_filtrations_say_what_to_install():
    with pytest.raises(ImportError, match="pip install gudhi"):
        sparse_rips_persistence(np.eye(4))
