import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import minimum_spanning_tree as scipy_tree
from scipy.spatial.distance import pdist, squareform

from geomprobe.topology import (
    certified,
    euclidean_mst,
    minimum_spanning_tree,
    mst,
    rips_persistence,
)
from geomprobe.topology.neighbours import nearest_neighbours

ALGORITHMS = ["prim", "products", "trees"]


def lengths_by_scipy(points):
    """Of a dense float64 matrix; equal points, whose distance scipy takes for no edge, apart."""
    points, counts = np.unique(points, axis=0, return_counts=True)
    tree = scipy_tree(squareform(pdist(points))).data if len(points) > 1 else np.empty(0)
    return np.sort(np.concatenate([np.zeros(int((counts - 1).sum())), tree]))


def is_a_tree(tree):
    label = np.arange(tree.n_points)
    for a, b in tree.edges:
        assert label[a] != label[b]
        label[label == label[b]] = label[a]
    return len(tree) == tree.n_points - 1


def spanning_tree(points, algorithm):
    if algorithm == "trees":
        pytest.importorskip("quitefastmst")
    return euclidean_mst(points, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_grid_and_a_polygon(algorithm):
    grid = np.stack(np.meshgrid(range(8), range(9)), axis=-1).reshape(-1, 2).astype(float)
    tree = spanning_tree(grid, algorithm)
    assert is_a_tree(tree)
    assert np.allclose(tree.lengths, 1, rtol=1e-12)
    angles = 2 * np.pi * np.arange(17) / 17
    polygon = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    tree = spanning_tree(polygon, algorithm)
    assert np.allclose(tree.lengths, 2 * np.sin(np.pi / 17), rtol=1e-12)
    assert tree.weighted_sum(2) == pytest.approx(16 * (2 * np.sin(np.pi / 17)) ** 2)


def cloud(kind, n, d, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d))
    if kind == "ties":
        points = np.round(points)
    if kind == "duplicates":
        points = np.repeat(points[: n // 2 + 1], 2, axis=0)
    if kind == "clusters":
        points = points + 1e3 * rng.integers(0, 4, (n, 1))
    if kind == "walk":
        points = 1e3 + 1e-3 * np.cumsum(points, axis=0)
    if kind == "far":
        points = 1e6 + 1e-3 * points
    if kind == "outlier":
        points[0] = 1e6
    if np.ptp(points) == 0:
        points[0] += 1
    return points


KINDS = ["normal", "ties", "duplicates", "clusters", "walk", "far", "outlier"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(st.sampled_from(KINDS), st.integers(2, 120), st.integers(1, 70), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_the_lengths_are_those_of_scipy(algorithm, kind, n, d, seed):
    points = cloud(kind, n, d, seed)
    if algorithm == "trees":
        points = points[:, :10]
        if np.ptp(points) == 0:
            return
    tree = spanning_tree(points, algorithm)
    assert is_a_tree(tree)
    # Coordinates near 1e6 are themselves rounded to 1e-10, here and there.
    scale = 1e-9 * np.abs(points).max() / 1e3
    assert np.allclose(tree.lengths, lengths_by_scipy(points), rtol=1e-9, atol=scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [3, 40])
def test_large_clouds_by_products_have_the_tree_of_prim(kind, d):
    points = cloud(kind, 3000, d, seed=1)
    one, other = (euclidean_mst(points, algorithm=name) for name in ("prim", "products"))
    assert is_a_tree(other)
    assert np.allclose(one.lengths, other.lengths, rtol=1e-9)


def test_what_lists_of_neighbours_miss_is_looked_up(monkeypatch):
    # Twelve clusters of equal points each but for a little: lists of three lead nowhere else.
    monkeypatch.setattr(certified, "_NEIGHBOURS", 3)
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(12, 5)), 40, axis=0) + 1e-6 * rng.normal(size=(480, 5))
    tree = euclidean_mst(points, algorithm="products")
    assert np.allclose(tree.lengths, lengths_by_scipy(points), rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [11, 512, 1300])
@pytest.mark.parametrize("n_jobs", [1, 4])
def test_the_neighbours_are_those_of_a_search_by_sorting(dtype, n, n_jobs):
    points = np.random.default_rng(n).normal(size=(n, 20)).astype(dtype)
    names, squares = nearest_neighbours(points, 10, n_jobs)
    exact = squareform(pdist(points.astype(np.float64), "sqeuclidean"))
    assert np.allclose(np.take_along_axis(exact, names, 1), squares, rtol=1e-4)
    assert all(len(set(row)) == 10 and i not in row for i, row in enumerate(names.tolist()))
    np.fill_diagonal(exact, np.inf)
    assert np.allclose(np.sort(squares, 1), np.sort(exact, 1)[:, :10], rtol=1e-4)
    assert np.array_equal(squares[:, 0], squares.max(axis=1))


def test_ties_between_clusters_that_are_looked_up(monkeypatch):
    # Clusters of eight on the corners of a grid: all lists stay at home, all gaps are equal.
    monkeypatch.setattr(certified, "_NEIGHBOURS", 3)
    corners = 100.0 * np.stack(np.meshgrid(*[range(4)] * 3), -1).reshape(-1, 3)
    cube = np.stack(np.meshgrid(*[range(2)] * 3), -1).reshape(-1, 3)
    points = (corners[:, None] + cube).reshape(-1, 3)
    tree = euclidean_mst(points, algorithm="products")
    assert is_a_tree(tree)
    assert np.allclose(tree.lengths, np.repeat([1.0, 99.0], [64 * 7, 63]), rtol=1e-12)


def test_a_path_far_from_the_origin_keeps_its_steps():
    # By products of float32 that are not centred, these steps come out wrong by some per cent, and
    # the PH dimension of such a path fell from 1.370 to 1.295.
    rng = np.random.default_rng(0)
    path = 1e3 + 1e-3 * np.cumsum(rng.normal(size=(800, 50)), axis=0)
    exact = lengths_by_scipy(path)
    for algorithm in ("prim", "products"):
        tree = euclidean_mst(path, algorithm=algorithm)
        assert np.allclose(tree.lengths, exact, rtol=1e-9)
    single = path.astype(np.float32)
    squares = (single**2).sum(1)
    spoiled = np.sqrt(np.maximum(squares[:, None] + squares - 2 * single @ single.T, 0))
    spoiled = np.minimum(spoiled, spoiled.T)
    wrong = minimum_spanning_tree(spoiled - np.diag(np.diag(spoiled))).lengths
    assert abs(wrong.sum() / exact.sum() - 1) > 0.01


@pytest.mark.parametrize("exponent", [-300, 300])
def test_no_scale_overflows(exponent):
    points = np.random.default_rng(0).normal(size=(50, 3))
    for algorithm in ("prim", "products"):
        tree = euclidean_mst(points * 2.0**exponent, algorithm=algorithm)
        expected = euclidean_mst(points, algorithm=algorithm)
        assert np.array_equal(tree.edges, expected.edges)


def test_auto_takes_what_suits(monkeypatch):
    taken = []
    monkeypatch.setattr(mst, "_by_prim", lambda points: taken.append("prim") or _chain(points))
    monkeypatch.setattr(mst, "_by_trees", lambda points: taken.append("trees") or _chain(points))
    monkeypatch.setattr(
        certified, "mst_by_products", lambda points, n: taken.append("products") or _chain(points)
    )
    rng = np.random.default_rng(0)
    for n, d in ((100, 3), (5000, 3), (3000, 64), (5000, 64)):
        euclidean_mst(rng.normal(size=(n, d)))
    few = "trees" if mst.find_spec("quitefastmst") else "prim"
    assert taken == ["prim", few, "prim", "products"]


def _chain(points):
    return np.stack([np.arange(len(points) - 1), np.arange(1, len(points))], axis=1)


def test_infinite_distances_leave_a_forest():
    distances = np.full((5, 5), np.inf)
    distances[0, 1] = distances[1, 0] = 2
    distances[2, 3] = distances[3, 2] = 1
    np.fill_diagonal(distances, 0)
    forest = minimum_spanning_tree(distances)
    assert forest.lengths.tolist() == [1, 2]
    assert forest.diagram().tolist() == [[0, 1], [0, 2], *[[0, np.inf]] * 3]


def test_the_diagram_is_that_of_h0():
    points = np.repeat(np.random.default_rng(0).normal(size=(30, 4)), 2, axis=0)
    by_engine = rips_persistence(points, 0, engine="ripser")[0]
    assert np.allclose(np.sort(euclidean_mst(points).diagram(), 0), np.sort(by_engine, 0))


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (np.zeros((1, 3)), {}, "n of at least 2"),
        (np.ones((4, 3)), {}, "all 4 points are equal"),
        ([[0.0], [np.nan]], {}, "1 of 2 rows hold NaN"),
        ([[0.0], [1.0]], {"algorithm": "kruskal"}, "algorithm must be one of"),
        ([[0.0], [1.0]], {"n_jobs": -1}, "n_jobs must be None, for all cores, or at least 1"),
    ],
)
def test_bad_input_is_refused(points, options, message):
    with pytest.raises(ValueError, match=message):
        euclidean_mst(points, **options)
    with pytest.raises(ValueError, match="square matrix"):
        minimum_spanning_tree(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="2 distances are NaN"):
        minimum_spanning_tree([[0, np.nan], [np.nan, 0]])
    with pytest.raises(ValueError, match=r"entry \(0, 1\) is 1 while \(1, 0\) is 2"):
        minimum_spanning_tree([[0, 1], [2, 0]])
    with pytest.raises(ValueError, match="cannot be negative, and the smallest is -1"):
        minimum_spanning_tree([[0, -1], [-1, 0]])
    with pytest.raises(ValueError, match="the diagonal is not"):
        minimum_spanning_tree([[0, 1], [1, 1e-9]])
