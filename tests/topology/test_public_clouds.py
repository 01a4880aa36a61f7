"""The clouds that ripser.py and gudhi test themselves on give the diagrams of the two packages."""

from itertools import product

import numpy as np
import pytest
from ripser import ripser
from scipy.sparse import coo_matrix
from scipy.spatial.distance import cdist

from geomprobe.topology import landmark_persistence, rips_persistence
from geomprobe.topology.engines import ENGINES

INSTALLED = [name for name, engine in ENGINES.items() if engine.installed]
# The point set of gudhi's manual on Rips complexes, with the filtration values printed there.
GUDHI_POINTS = np.array([[1, 1], [7, 0], [4, 6], [9, 6], [0, 14], [2, 19], [9, 17]], dtype=float)


def uniform_cube():
    return np.random.RandomState(3100).random_sample((100, 3))


def circles_on_circles():
    angles = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    two = np.concatenate([circle, 0.8 * circle])
    rng = np.random.RandomState(10)
    return two[rng.permutation(100)] + 5 * two[rng.permutation(100)]


def circle_of_forty():
    angles = 2 * np.pi * np.random.RandomState(40).rand(40)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def boundary_of_the_cube():
    grid = np.array(list(product(np.linspace(0, 1, 5), repeat=3)))
    return grid[((grid == 0) | (grid == 1)).any(axis=1)]


def ordered(dgm):
    return dgm[np.lexsort(np.round(dgm, 5).T)]


@pytest.mark.parametrize("engine", INSTALLED)
@pytest.mark.parametrize(
    ("cloud", "max_dim"),
    [(uniform_cube, 2), (circles_on_circles, 1), (circle_of_forty, 1), (lambda: GUDHI_POINTS, 1)],
)
def test_dense_clouds(cloud, max_dim, engine):
    points = cloud()
    found = rips_persistence(points, max_dim, engine=engine)
    for dgm, theirs in zip(found, ripser(points, maxdim=max_dim)["dgms"], strict=True):
        theirs = theirs[theirs[:, 0] < theirs[:, 1]]
        np.testing.assert_allclose(ordered(dgm), ordered(theirs), rtol=1e-5)


@pytest.mark.parametrize("engine", INSTALLED)
def test_the_boundary_of_a_cube_encloses_one_void_that_dies_at_one(engine):
    found = rips_persistence(boundary_of_the_cube(), 2, threshold=1.5, engine=engine)
    assert len(found[2]) == 1
    assert found[2][0, 1] == pytest.approx(1.0)


def test_a_sparse_matrix_in_two_formats():
    lengths = [6.0, 8, 2, 4, 5, 9, 10, 3, 1, 1]
    rows, columns = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3], [4, 1, 3, 2, 4, 3, 2, 3, 4, 4]
    matrix = coo_matrix((lengths, (rows, columns)), shape=(5, 5))
    theirs = ripser(matrix, distance_matrix=True)["dgms"]
    for given in (matrix, matrix.tocsr()):
        for dgm, other in zip(rips_persistence(given, metric="precomputed"), theirs, strict=True):
            np.testing.assert_allclose(ordered(dgm), ordered(other))


def test_the_points_of_gudhis_manual():
    found = rips_persistence(GUDHI_POINTS, 0)[0][:, 1]
    np.testing.assert_allclose(found[:-1], [5, 5.38516, 5.83095, 6.08276, 7.28011, 8.94427], 1e-5)


@pytest.mark.parametrize("kind", ["points", "distances"])
def test_ripsers_own_landmarks(kind):
    points = np.random.RandomState(100).randn(100, 3)
    theirs = ripser(points, n_perm=20)
    given = points if kind == "points" else cdist(points, points)
    metric = "euclidean" if kind == "points" else "precomputed"
    found = landmark_persistence(given, 20, metric=metric)
    assert found.error_bound == pytest.approx(2 * theirs["r_cover"], rel=1e-6)
    for dgm, other in zip(found, theirs["dgms"], strict=True):
        np.testing.assert_allclose(ordered(dgm), ordered(other), rtol=1e-5)


@pytest.mark.skipif("gudhi" not in INSTALLED, reason="gudhi is not installed")
@pytest.mark.parametrize("cloud", [uniform_cube, circles_on_circles, circle_of_forty])
def test_gudhis_simplex_tree(cloud):
    from gudhi import RipsComplex

    points = cloud()
    tree = RipsComplex(points=points).create_simplex_tree(max_dimension=2)
    tree.compute_persistence(min_persistence=0.0)
    for dim, dgm in enumerate(rips_persistence(points)):
        theirs = tree.persistence_intervals_in_dimension(dim)
        theirs = theirs[theirs[:, 1] - theirs[:, 0] > 1e-7]
        np.testing.assert_allclose(ordered(dgm), ordered(theirs), rtol=1e-5)
