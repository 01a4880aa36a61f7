"""Where H1 ends early, and that it gives the same diagrams."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from geomprobe import memory
from geomprobe.exceptions import MemoryEstimateError
from geomprobe.topology import engines, rips, rips_persistence, truncation
from geomprobe.topology.truncation import end_of_loops, longest_without_witness


def cloud(seed, n=None):
    rng = np.random.default_rng(seed)
    n = n or int(rng.integers(5, 60))
    points = rng.normal(size=(n, int(rng.integers(1, 6))))
    kind = rng.integers(5)
    if kind == 1:  # ties
        points = np.round(points)
    if kind == 2:  # duplicates
        points[n // 2 :] = points[: n - n // 2]
    if kind == 3:  # clusters
        points = points + 30 * rng.integers(0, 3, (n, 1))
    if kind == 4:  # about a circle
        points = points / np.linalg.norm(points, axis=1, keepdims=True) + 0.1 * points
    points[0] += 1e-3
    return points


def circle(n):
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.fixture
def limits(monkeypatch):
    """The largest edge of each run of an engine."""
    seen = []
    compute = engines.compute

    def recorded(arrays, parameters):
        seen.append(parameters["limit"])
        return compute(arrays, parameters)

    monkeypatch.setattr(engines, "compute", recorded)
    return seen


def without_it(monkeypatch, *args, **kwargs):
    with monkeypatch.context() as patch:
        patch.setattr(rips, "_early", lambda *_: None)
        return rips_persistence(*args, **kwargs)


@given(st.integers(0, 10**6), st.floats(0.2, 1), st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_longest_edge_without_a_witness_by_definition(seed, share, holed):
    distances = squareform(pdist(cloud(seed)))
    limit = share * distances.max()
    if holed:
        distances[distances > np.median(distances)] = np.inf
    bare = [
        distances[a, b]
        for a, b in combinations(range(len(distances)), 2)
        if distances[a, b] <= limit
        and not (np.maximum(distances[a], distances[b]) < distances[a, b]).any()
    ]
    assert longest_without_witness(distances, limit) == max(bare, default=0.0)


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_no_loop_is_born_beyond_it(seed):
    distances = squareform(pdist(cloud(seed)))
    found = rips_persistence(distances, metric="precomputed", return_edges=True)
    births = found[1][:, 0]
    assert births.max(initial=0) <= longest_without_witness(distances, found.threshold)


@pytest.mark.parametrize("options", [{}, {"coeff": 3}, {"return_edges": True}, {"threshold": 1.5}])
@pytest.mark.parametrize("seed", range(12))
def test_the_diagrams_are_those_of_all_edges(seed, options, monkeypatch):
    monkeypatch.setattr(truncation, "_FEWEST", 0)
    points = cloud(seed, 70)
    expected = without_it(monkeypatch, points, **options)
    found = rips_persistence(points, **options)
    assert found.threshold == expected.threshold
    assert (found.critical_edges is None) == ("return_edges" not in options)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one[np.lexsort(one.T)], other[np.lexsort(other.T)])


def test_cocycles_are_those_of_all_edges(monkeypatch):
    points = np.random.default_rng(0).normal(size=(300, 8))
    found = rips_persistence(points, return_cocycles=True)
    expected = without_it(monkeypatch, points, return_cocycles=True)
    bars, others = (
        {tuple(bar): one.tolist() for bar, one in zip(each[1], each.cocycles[1], strict=True)}
        for each in (found, expected)
    )
    assert len(bars) > 100
    assert bars == others


def test_few_edges_suffice_for_points_without_a_large_loop(limits):
    points = np.random.default_rng(0).normal(size=(500, 8))
    found = rips_persistence(points)
    assert len(limits) == 1
    assert limits[0] < 0.9 * found.threshold
    assert found[1].max() < limits[0]


def test_a_large_loop_takes_all_edges(limits):
    found = rips_persistence(circle(400))
    assert limits[0] < 0.5 < limits[1] == pytest.approx(found.threshold)
    # Adamaszek and Adams (2017): the loop of the whole circle dies at the square root of 3.
    assert found[1].max() == pytest.approx(np.sqrt(3), rel=0.01)


def test_it_fits_where_all_edges_do_not(monkeypatch):
    points = np.random.default_rng(0).normal(size=(500, 8))
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**28)
    with pytest.raises(MemoryEstimateError, match="500 points up to dimension 1 by ripser"):
        without_it(monkeypatch, points, engine="ripser")
    assert len(rips_persistence(points, engine="ripser")[1]) > 100
    # Not so for a circle: its loop may live as long as any edge is.
    with pytest.raises(MemoryEstimateError, match="500 points up to dimension 1 by ripser"):
        rips_persistence(circle(500), engine="ripser")


def test_where_it_is_not_tried():
    rng = np.random.default_rng(0)
    assert end_of_loops(squareform(pdist(rng.normal(size=(100, 8)))), np.inf) is None
    # Each edge is as good as any other: none has a witness.
    assert end_of_loops(1 - np.eye(300), 1.0) is None
    assert end_of_loops(squareform(pdist(rng.normal(size=(300, 8)))), 1e-3) is None
