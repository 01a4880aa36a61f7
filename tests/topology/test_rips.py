import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from geomprobe import memory
from geomprobe.exceptions import MemoryEstimateError
from geomprobe.topology import dispatch, engines, mst, rips, rips_persistence
from geomprobe.topology.engines import ENGINES


def lengths(dgm):
    return np.sort(dgm[np.isfinite(dgm[:, 1])] @ [-1, 1])[::-1]


def circle(n):
    angles = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def sphere(n, seed=0):
    points = np.random.default_rng(seed).normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def torus(n, seed=0):
    """Uniform by area on the torus of radii 2 and 1 (Diaconis, Holmes and Shahshahani 2013)."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, 4 * n)
    angle = angle[rng.uniform(0, 3, 4 * n) < 2 + np.cos(angle)][:n]
    turn = rng.uniform(0, 2 * np.pi, n)
    radius = 2 + np.cos(angle)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), np.sin(angle)], axis=1)


@pytest.mark.parametrize("n", [4, 5, 6, 9, 12, 31])
def test_the_loop_of_a_regular_polygon_in_closed_form(n):
    # Adamaszek and Adams (2017), The Vietoris-Rips complexes of a circle: the loop is born at the
    # side, and dies when three points that are ceil(n/3) steps apart enclose the centre.
    (bar,) = rips_persistence(circle(n))[1]
    expected = [2 * np.sin(np.pi / n), 2 * np.sin(np.pi * np.ceil(n / 3) / n)]
    assert np.allclose(bar, expected, rtol=1e-6)


@pytest.mark.parametrize("coeff", [2, 3])
def test_a_noisy_circle_has_one_dominant_loop(coeff):
    points = circle(80) + np.random.default_rng(0).normal(0, 0.05, (80, 2))
    bars = lengths(rips_persistence(points, coeff=coeff)[1])
    assert bars[0] > 1
    assert len(bars) == 1 or bars[1] < 0.1 * bars[0]


@pytest.mark.long
def test_a_torus_has_two_dominant_loops():
    # 1000 points, 400 of them by farthest-point sampling, which covers the surface evenly.
    points = torus(1000)
    chosen, distance = [0], np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < 400:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    bars = lengths(rips_persistence(points[chosen])[1])
    assert bars[1] > 0.8
    assert bars[2] < 0.4 * bars[1]


@pytest.mark.long
def test_a_sphere_has_one_dominant_void_and_no_loop():
    diagrams = rips_persistence(sphere(150), max_dim=2)
    voids = lengths(diagrams[2])
    assert voids[0] > 0.6
    assert len(voids) == 1 or voids[1] < 0.2 * voids[0]
    assert lengths(diagrams[1])[0] < voids[0]


def projective_plane():
    """Distances on the barycentric subdivision of the six-vertex RP^2: 1 along edges, else 2.

    The icosahedron with antipodes identified; a barycentric subdivision is a flag complex, so
    that the Rips complex at scale 1 is the projective plane itself.
    """
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a in (1, -1) for b in (1, -1)]
    corners = np.array([np.roll(corner, shift) for shift in range(3) for corner in corners])
    near = np.isclose(squareform(pdist(corners)), 2)
    _, twin = np.unique(np.abs(corners @ corners.T) > 3.5, axis=0, return_inverse=True)
    triples = combinations(range(12), 3)
    faces = {frozenset(twin[list(t)]) for t in triples if near[np.ix_(t, t)].sum() == 6}
    simplices = {
        frozenset(part) for face in faces for k in (1, 2, 3) for part in combinations(face, k)
    }
    assert (len(faces), len(simplices)) == (10, 6 + 15 + 10)
    return np.array([[0 if a == b else 1 if a < b or b < a else 2 for a in simplices]
                     for b in simplices])  # fmt: skip


def test_torsion_shows_in_the_projective_plane():
    # H_*(RP^2; Z/2) has ranks 1, 1, 1 and over another field 1, 0, 0 (Hatcher 2002, section 2.2).
    for coeff, betti in ((2, [1, 1, 1]), (3, [1, 0, 0]), (127, [1, 0, 0])):
        found = rips_persistence(
            projective_plane(), 2, metric="precomputed", threshold=1.5, coeff=coeff
        )
        assert [int(np.isinf(dgm[:, 1]).sum()) for dgm in found] == betti


def flat_surface(n, *, twisted):
    """Distances on a grid of the flat torus of side 1; twisted, of the flat Klein bottle.

    Once around in the second direction, a Klein bottle reflects the first.
    """
    x, y = np.stack(np.meshgrid(np.arange(n), np.arange(n)), axis=-1).reshape(-1, 2).T / n
    images = []
    for turns in (-1, 0, 1):
        mirrored = -x if twisted and turns else x
        across = np.abs(x[:, None] - mirrored) % 1
        along = y[:, None] - y - turns
        images.append(np.hypot(np.minimum(across, 1 - across), along))
    return np.min(images, axis=0)


@pytest.mark.parametrize("engine", ["auto", "ripser"])
@pytest.mark.parametrize(
    ("twisted", "coeff", "betti"),
    [(False, 2, [1, 2, 1]), (False, 3, [1, 2, 1]), (True, 2, [1, 2, 1]), (True, 3, [1, 1, 0])],
)
def test_the_klein_bottle_and_the_torus_by_their_homology(twisted, coeff, betti, engine):
    # Hatcher (2002), Example 2.47 and section 2.2. The torsion of the Klein bottle shows over Z/2.
    # Below a third of the shortest loop the complex of a dense sample is the surface (Latschev).
    found = rips_persistence(
        flat_surface(10, twisted=twisted),
        2,
        metric="precomputed",
        threshold=0.25,
        coeff=coeff,
        engine=engine,
    )
    assert [int(np.isinf(dgm[:, 1]).sum()) for dgm in found] == betti


def test_clusters_on_a_line_have_the_known_gaps():
    points = np.array([0, 1, 10, 12, 40.0])[:, None]
    diagrams = rips_persistence(points)
    assert lengths(diagrams[0]).tolist() == [28, 9, 2, 1]
    assert np.isinf(diagrams[0][:, 1]).sum() == 1
    assert len(diagrams[1]) == 0


def test_h0_is_the_minimum_spanning_tree():
    # Single linkage: an independent algorithm, scipy's Kruskal.
    points = np.random.default_rng(1).normal(size=(60, 5))
    tree = minimum_spanning_tree(squareform(pdist(points))).data
    assert np.allclose(lengths(rips_persistence(points)[0]), np.sort(tree)[::-1], rtol=1e-6)


def test_nearly_equal_points_far_from_the_origin_keep_their_distances():
    # In a float32 Gram matrix these distances are lost altogether.
    points = 1e5 + 1e-3 * circle(12)
    (bar,) = rips_persistence(points)[1]
    assert np.allclose(bar, 2e-3 * np.sin(np.pi * np.array([1, 4]) / 12), rtol=1e-4)


def test_giotto_tda_agrees_to_1e_6():
    homology = pytest.importorskip("gtda.homology")
    points = np.random.default_rng(0).normal(size=(60, 3))
    theirs = homology.VietorisRipsPersistence(homology_dimensions=(0, 1)).fit_transform([points])[0]
    ours = rips_persistence(points, engine="ripser")
    for dim in (0, 1):
        bars = theirs[(theirs[:, 2] == dim) & (theirs[:, 1] > theirs[:, 0])][:, :2]
        mine = ours.finite(dim)
        assert np.allclose(bars[np.lexsort(bars.T)], mine[np.lexsort(mine.T)], atol=1e-6)


CLOUDS = st.tuples(st.integers(4, 14), st.integers(1, 4), st.integers(0, 10_000))


@given(CLOUDS)
@settings(deadline=None, max_examples=40)
def test_isometries_scalings_and_the_order_of_points(cloud):
    n, d, seed = cloud
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d))
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    moved = 3 * points[rng.permutation(n)] @ rotation + 7
    for a, b in zip(rips_persistence(points), rips_persistence(moved), strict=True):
        assert np.allclose(3 * lengths(a), lengths(b), rtol=1e-4, atol=1e-5)


def test_duplicates_are_legal():
    points = np.repeat(circle(6), 2, axis=0)
    diagrams = rips_persistence(points)
    assert np.allclose(diagrams[1], [[1, np.sqrt(3)]], rtol=1e-6)
    assert len(diagrams[0]) == 6
    assert len(rips_persistence(points, 0)[0]) == 6


def test_precomputed_equals_points_and_a_threshold_cuts():
    points = np.random.default_rng(2).normal(size=(20, 2))
    whole = rips_persistence(points)
    given_distances = rips_persistence(squareform(pdist(points)), metric="precomputed")
    assert all(np.allclose(a, b, rtol=3e-7) for a, b in zip(whole, given_distances, strict=True))
    cut = rips_persistence(points, threshold=0.3)
    assert np.isinf(cut[0][:, 1]).sum() > 1
    assert cut.finite(0).max(initial=0) <= 0.3 + 1e-6


@pytest.mark.parametrize("exponent", [-200, -140, 120, 200])
def test_no_scale_overflows_or_underflows_in_float32(exponent):
    points = np.random.default_rng(3).normal(size=(15, 3))
    pairs = zip(rips_persistence(points), rips_persistence(points * 2.0**exponent), strict=True)
    assert all(np.array_equal(a * 2.0**exponent, b) for a, b in pairs)


def test_a_threshold_above_the_enclosing_radius_changes_nothing():
    points = np.random.default_rng(2).normal(size=(20, 2))
    assert rips_persistence(points, threshold=np.inf) == rips_persistence(points)
    assert rips_persistence(points, threshold=1e3) == rips_persistence(points)


def test_two_points_and_dimensions_that_they_cannot_have():
    h0, *rest = rips_persistence([[0.0], [3.0]], max_dim=28)
    assert h0.tolist() == [[0, 3], [0, np.inf]]
    assert [len(dgm) for dgm in rest] == [0] * 28


def test_metrics_are_scipys():
    points = np.array([[0, 0], [1, 1.0]])
    assert rips_persistence(points, metric="cityblock")[0][0, 1] == 2


def test_the_result_says_what_was_done():
    diagrams = rips_persistence(circle(6), coeff=3, engine="ripser")
    assert (diagrams.engine, diagrams.coeff, diagrams.n_points) == ("ripser", 3, 6)
    assert rips_persistence(circle(6), 0).engine.startswith("spanning tree")
    assert diagrams.threshold == pytest.approx(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": np.zeros((1, 2))}, r"n of at least 2, got shape \(1, 2\)"),
        ({"X": np.zeros(5)}, r"got shape \(5,\)"),
        ({"X": [[0, np.nan], [1, 2], [np.inf, 0]]}, "2 of 3 rows hold NaN or infinity"),
        ({"X": np.zeros((3, 2)) * 1j}, "must be a real array.*complex128"),
        ({"X": [["a"], ["b"]]}, "must be a real array.*<U1"),
        ({"X": np.full((3, 2), 7)}, "all 3 points are equal"),
        ({"X": np.zeros((3, 3)), "metric": "precomputed"}, "all 3 points are equal"),
        ({"X": circle(3), "max_dim": -1}, "max_dim must be a whole number from 0 to 28"),
        ({"X": circle(3), "max_dim": 29}, "max_dim must be a whole number from 0 to 28"),
        ({"X": circle(3), "max_dim": 1.0}, "max_dim must be a whole number from 0 to 28"),
        ({"X": circle(3), "coeff": 4}, "coeff must be a prime number, got 4"),
        ({"X": circle(3), "coeff": 2.5}, r"coeff must be a prime number, got 2\.5"),
        ({"X": circle(3), "engine": "phat"}, "engine must be 'auto' or one of .*'ripser'.*'phat'"),
        # ripser holds a coefficient in eight signed bits: with 131 it does not return.
        ({"X": circle(3), "coeff": 131, "engine": "ripser"}, "coefficients up to 127 only"),
        # It ends the process where a simplex has a number above 2^55.
        ({"X": circle(60), "max_dim": 28, "engine": "ripser"}, "cannot number the simplices of 60"),
        ({"X": circle(3), "coeff": 3, "engine": "redzed-tda"}, "no engine can compute this"),
        ({"X": circle(3), "return_cocycles": True, "engine": "tda"}, "no engine can compute this"),
        ({"X": circle(3), "threshold": 0}, "threshold must be positive"),
        ({"X": np.zeros((3, 2)), "metric": "precomputed"}, r"square matrix.*got shape \(3, 2\)"),
        ({"X": csr_matrix((3, 2)), "metric": "precomputed"}, r"square matrix.*got shape \(3, 2\)"),
        ({"X": [[0, -1], [-1, 0]], "metric": "precomputed"}, "cannot be negative.*-1"),
        ({"X": [[0, np.nan], [np.nan, 0]], "metric": "precomputed"}, "2 distances are NaN"),
        ({"X": [[1, 2], [2, 0]], "metric": "precomputed"}, "diagonal is not"),
        ({"X": csr_matrix([[1, 2], [2, 0]]), "metric": "precomputed"}, "diagonal is not"),
        ({"X": [[0, 2], [1, 0]], "metric": "precomputed"}, "must be symmetric"),
        ({"X": csr_matrix([[0, 2], [1, 0]]), "metric": "precomputed"}, "must be symmetric"),
        ({"X": circle(3), "metric": "nearest"}, "metric must be .precomputed. or one of"),
        ({"X": [[0, 0], [1, 0], [1, 1]], "metric": "cosine"}, "2 of 3 pairs of points no finite"),
        ({"X": [[0, 1e200], [0, 0]]}, "1 of 1 pairs of points no finite"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        rips_persistence(**arguments)


def test_distances_that_do_not_fit_in_memory_are_not_taken(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    monkeypatch.setattr(rips, "distance_matrix", lambda *_: pytest.fail("the work has begun"))
    # 2^29 bytes, 32 of them a distance.
    fits = "distances of 5000 points.*at most 4096 points"
    with pytest.raises(MemoryEstimateError, match=f"{fits}.*landmark.*threshold.*max_dim=0"):
        rips_persistence(circle(5000))
    with pytest.raises(MemoryEstimateError, match=f"{fits}, whose distances fit; .*threshold"):
        rips_persistence(circle(5000), metric="cityblock")


def test_h0_of_points_takes_no_distances(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**24)
    assert len(rips_persistence(circle(5000), max_dim=0)[0]) == 5000
    with pytest.raises(MemoryEstimateError, match="spanning tree of 5000 points in 2 dimensions"):
        rips_persistence(circle(5000), max_dim=0, memory_limit=2**20)


@pytest.mark.parametrize(("engine", "available"), [("auto", 2**26), ("ripser", 2**28)])
def test_a_refusal_says_what_fits_and_that_does_fit(monkeypatch, engine, available):
    monkeypatch.setattr(memory, "available_bytes", lambda: available)
    points = sphere(300)
    with pytest.raises(MemoryEstimateError, match=r"300 points up to dimension 2") as refusal:
        rips_persistence(points, max_dim=2, engine=engine)
    said = re.search(r"max_dim=(\d); (\d+) points.*threshold=([\d.]+)", str(refusal.value))
    dim, n_points, threshold = int(said[1]), int(said[2]), float(said[3])
    assert len(rips_persistence(points, max_dim=dim, engine=engine)) == dim + 1
    assert len(rips_persistence(points[:n_points], max_dim=2, engine=engine)) == 3
    assert len(rips_persistence(points, max_dim=2, threshold=threshold, engine=engine)) == 3


def test_runs_with_limits_give_the_same():
    points = sphere(60)
    plain = rips_persistence(points, 2, return_edges=True)
    limited = rips_persistence(points, 2, return_edges=True, time_limit=60, memory_limit=2**30)
    assert limited == plain


def test_a_time_limit_stops_an_engine_and_a_memory_limit_holds_it(monkeypatch):
    points = np.random.default_rng(0).normal(size=(1500, 3))
    with pytest.raises(TimeoutError, match=r"time limit of 0\.5 s"):
        rips_persistence(points, 2, engine="ripser", time_limit=0.5, memory_limit=2**40)
    monkeypatch.setattr(dispatch, "needed_bytes", lambda *_: 0)
    with pytest.raises(MemoryError):
        rips_persistence(points, 2, engine="ripser", memory_limit=2**28)


def test_a_spanning_tree_that_may_take_longer_than_the_time_limit_is_stopped(monkeypatch):
    points = sphere(50)
    with monkeypatch.context() as patched:
        patched.setattr(rips, "run_isolated", lambda *_, **__: pytest.fail("it takes no time"))
        plain = rips_persistence(points, 0, time_limit=1, return_edges=True)
    monkeypatch.setattr(mst, "at_most_seconds", lambda *_, **__: np.inf)
    assert rips_persistence(points, 0, time_limit=300, return_edges=True) == plain
    with pytest.raises(TimeoutError, match=r"time limit of 0\.01 s"):
        rips_persistence(points, 0, time_limit=0.01)


def test_what_takes_long_goes_to_a_process_of_its_own(monkeypatch):
    went = []

    def isolated(script, function, arrays, parameters, **limits):
        went.append((parameters["engine"], limits))
        return engines.compute(arrays, parameters)

    monkeypatch.setattr(rips, "run_isolated", isolated)
    points = sphere(40)
    plain = rips_persistence(points)
    assert not went
    monkeypatch.setattr(rips, "at_most_seconds", lambda *_: 30.0)
    assert rips_persistence(points) == plain
    ((engine, limits),) = went
    assert engine == plain.engine
    assert limits["time_limit"] is None
    assert 0 < limits["memory_limit"] < memory.available_bytes()


PEAK = """
import sys
import numpy as np
from geomprobe.topology import dispatch, rips, rips_persistence
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
engine, shape, n, dim = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
points = np.random.default_rng(0).normal(size=(n, 3))
if shape == "sphere":
    points /= np.linalg.norm(points, axis=1, keepdims=True)
if shape == "polygon":
    angles = 2 * np.pi * np.arange(n) / n
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
rips_persistence(points[:9], dim, engine=engine)
if shape == "walk":
    points = np.cumsum(points, axis=0)
estimates = []
needed_bytes = dispatch.needed_bytes
dispatch.needed_bytes = lambda *given: estimates.append(needed_bytes(*given)) or estimates[-1]
rips.at_most_seconds = lambda *_: 0
before = peak()
rips_persistence(points, dim, engine=engine)
print(peak() - before, estimates[-1])
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak from")
@pytest.mark.parametrize("cloud", [("polygon", 500, 1), ("walk", 900, 1), ("sphere", 180, 2)])
@pytest.mark.parametrize("engine", [name for name, one in ENGINES.items() if one.installed])
def test_the_memory_estimate_covers_what_is_taken(engine, cloud):
    arguments = [sys.executable, "-c", PEAK, engine, *map(str, cloud)]
    out = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    taken, estimate = map(int, out.split())
    assert taken < estimate < 40 * taken
