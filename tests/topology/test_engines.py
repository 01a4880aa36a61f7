"""Every installed engine gives the diagrams of ripser."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.spatial.distance import pdist, squareform

from geomprobe.topology import rips_persistence
from geomprobe.topology.engines import ENGINES

installed = [name for name, engine in ENGINES.items() if engine.installed]
others = [name for name in installed if name != "ripser"]
sparse = [name for name in installed if ENGINES[name].sparse]


def ordered(dgm):
    return dgm[np.lexsort(dgm.T)]


def close(one, other):
    """Whether diagrams agree to the rounding of float32."""
    return all(
        a.shape == b.shape and np.allclose(np.sort(a, axis=0), np.sort(b, axis=0), rtol=3e-7)
        for a, b in zip(one, other, strict=True)
    )


def random_cloud(seed):
    rng = np.random.default_rng(seed)
    kind, n, d = rng.integers(5), int(rng.integers(5, 40)), int(rng.integers(1, 6))
    points = rng.normal(size=(n, d))
    if kind == 1:  # ties
        points = np.round(points)
    if kind == 2:  # duplicates
        points = np.repeat(points, 2, axis=0)
    if kind == 3:  # clusters
        points = points + 30 * rng.integers(0, 3, (n, 1))
    if kind == 4:  # a walk far from the origin
        points = 1e6 + np.cumsum(points, axis=0)
    if np.ptp(points) == 0:
        points[0] += 1
    return points


def test_the_engines_of_this_environment_are_at_least_two():
    assert "ripser" in installed
    assert others


@pytest.mark.parametrize("engine", others)
@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_same_diagrams_from_each(engine, seed):
    points = random_cloud(seed)
    reference = rips_persistence(points, 2, engine="ripser")
    found = rips_persistence(points, 2, engine=engine)
    assert found.engine == engine
    assert close(found, reference)
    half = reference.threshold / 2
    assert close(
        rips_persistence(points, 1, threshold=half, engine=engine),
        rips_persistence(points, 1, threshold=half, engine="ripser"),
    )


@pytest.mark.parametrize("engine", installed)
@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_critical_edges_are_the_births_and_deaths_exactly(engine, seed):
    points = random_cloud(seed)
    distances = squareform(pdist(points))
    kwargs = {"metric": "precomputed", "return_edges": True}
    found = rips_persistence(distances, 2, engine=engine, **kwargs)
    assert close(found, rips_persistence(distances, 2, metric="precomputed", engine="ripser"))
    for dim, (dgm, edges) in enumerate(zip(found, found.critical_edges, strict=True)):
        assert edges.shape == (len(dgm), 4)
        dies = np.isfinite(dgm[:, 1])
        assert np.array_equal(distances[edges[dies, 2], edges[dies, 3]], dgm[dies, 1])
        assert (edges[~dies, 2:] == -1).all()
        if dim == 0:
            assert (edges[:, :2] == -1).all()
        else:
            assert np.array_equal(distances[edges[:, 0], edges[:, 1]], dgm[:, 0])
    # The order of the edges decides, hence not one bar differs between engines.
    reference = rips_persistence(distances, 2, engine="ripser", **kwargs)
    for one, other in zip(found, reference, strict=True):
        assert np.array_equal(ordered(one), ordered(other))


@pytest.mark.parametrize("engine", installed)
def test_infinite_distances_are_no_edges(engine):
    points = random_cloud(seed=1)
    distances = squareform(pdist(points))
    cut = float(np.median(distances))
    holed = np.where(distances > cut, np.inf, distances)
    kwargs = {"metric": "precomputed", "engine": engine}
    found = rips_persistence(holed, 1, **kwargs)
    assert close(found, rips_persistence(distances, 1, threshold=cut, **kwargs))
    far = np.kron(np.eye(2), np.ones((len(points),) * 2)) == 0
    two = np.where(far, np.inf, np.tile(distances, (2, 2)))
    found = rips_persistence(two, 1, **kwargs)
    assert np.isinf(found[0][:, 1]).sum() == 2
    alone = rips_persistence(distances, 1, **kwargs)
    assert len(found[1]) >= 2 * len(alone[1])


@pytest.mark.parametrize("engine", [*sparse, "auto"])
def test_sparse_graphs_are_thresholded_distances(engine):
    points = np.random.default_rng(2).normal(size=(40, 3))
    distances = squareform(pdist(points))
    cut = float(np.median(distances))
    graph = csr_matrix(np.where(distances <= cut, distances, 0))
    dense = rips_persistence(
        distances, 2, metric="precomputed", threshold=cut, engine="ripser", return_edges=True
    )
    for given_graph in (graph, csr_matrix(np.triu(graph.toarray())), graph.tocoo()):
        found = rips_persistence(given_graph, 2, metric="precomputed", engine=engine)
        assert close(found, dense)
    edges = rips_persistence(graph, 2, metric="precomputed", engine=engine, return_edges=True)
    for one, other in zip(edges, dense, strict=True):
        assert np.array_equal(ordered(one), ordered(other))


@pytest.mark.parametrize(
    ("engine", "coeff"),
    [(name, p) for name in installed for p in (2, 3) if p <= ENGINES[name].largest_coeff],
)
def test_spheres_of_all_dimensions(engine, coeff):
    # The cross-polytope on 2k + 2 points, all but opposite ones at distance 1: its complex is the
    # k-sphere from 1 to 2 (Meshulam 2003).
    for dim in (1, 2, 3):
        n = 2 * dim + 2
        opposite = np.eye(n)[np.arange(n) ^ 1]
        distances = 1.0 - np.eye(n) + opposite
        found = rips_persistence(distances, dim, metric="precomputed", engine=engine, coeff=coeff)
        assert found[dim].tolist() == [[1.0, 2.0]]
        assert all(len(found[below]) == 0 for below in range(1, dim))


@pytest.mark.parametrize("engine", [name for name in installed if ENGINES[name].largest_coeff > 2])
def test_fields_differ_where_there_is_torsion(engine):
    # The minimal triangulation of the projective plane: H1 is Z/2 over Z/2, and nothing over Z/3.
    # Its 1-skeleton is complete, hence its barycentric subdivision, which is a flag complex.
    faces = ["014", "015", "023", "025", "034", "123", "124", "135", "245", "345"]
    cells = list(
        {frozenset(part) for face in faces for k in (1, 2, 3) for part in combinations(face, k)}
    )
    n = len(cells)
    related = np.array([[a < b or b < a for b in cells] for a in cells])
    distances = np.where(related, 1.0, 2.0) - 2 * np.eye(n)
    kwargs = {"metric": "precomputed", "engine": engine, "threshold": 1.5}
    for coeff, betti in ((2, [1, 1, 1]), (3, [1, 0, 0])):
        found = rips_persistence(distances, 2, coeff=coeff, **kwargs)
        assert [int(np.isinf(dgm[:, 1]).sum()) for dgm in found] == betti


def test_a_cocycle_of_each_bar_runs_round_its_loop():
    angles = 2 * np.pi * np.arange(12) / 12
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = rips_persistence(circle, 1, return_cocycles=True)
    assert found.engine == "ripser"
    ((bar,), (cocycle,)) = found[1], found.cocycles[1]
    assert bar[0] == pytest.approx(2 * np.sin(np.pi / 12), rel=1e-12)
    # Just after the birth it pairs to 1, mod 2, with the cycle of all sides.
    ends = {frozenset(row[:2]) for row in cocycle.tolist()}
    sides = {frozenset((i, (i + 1) % 12)) for i in range(12)}
    assert len(ends & sides) % 2 == 1
