"""Distances of diagrams, against hand-computed cases, theorems, gudhi and persim."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomprobe.exceptions import MemoryEstimateError
from geomprobe.topology import rips_persistence
from geomprobe.topology.distances import (
    _bottleneck,
    bottleneck_distance,
    matching,
    wasserstein_distance,
)

INF = np.inf
BARS = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), max_size=8).map(
    lambda rows: np.array([(birth, birth + length) for birth, length in rows]).reshape(-1, 2)
)


def random_diagram(n, seed):
    births, lengths = np.random.default_rng(seed).exponential(size=(2, n))
    return np.stack([births, births + lengths], axis=1)


@pytest.fixture(params=["gudhi", "scipy"])
def route(request, monkeypatch):
    if request.param == "gudhi":
        pytest.importorskip("gudhi")
    else:
        monkeypatch.setattr("geomprobe.topology.distances.find_spec", lambda name: None)
    return request.param


# Each by hand: a bar of length l lies l/2 from the diagonal in the maximum norm.
@pytest.mark.parametrize(
    ("first", "second", "bottleneck", "total"),
    [
        ([], [], 0, 0),
        ([[0, 4]], [], 2, 2),
        ([[0, 4]], [[1, 4.5]], 1, 1),
        ([[0, 1]], [[10, 11]], 0.5, 1),  # Both to the diagonal: they are too far apart.
        ([[0, 4], [0, 1]], [[0, 5]], 1, 1.5),
        ([[0, 4], [5, 7]], [[1, 4], [5, 6]], 1, 2),
        # Matching the long bars (3 apart) beats leaving them (4 each); the greedy pair does not.
        ([[0, 8], [3, 11]], [[3, 11], [6, 14]], 3, 6),
        ([[0, INF]], [[2, INF]], 2, 2),
        ([[0, INF], [5, INF], [0, 2]], [[6, INF], [1, INF]], 1, 3),
        ([[0, INF]], [], INF, INF),
        ([[0, INF], [1, 2]], [[0, 9]], INF, INF),
        ([[2, 2], [3, 3]], [], 0, 0),
    ],
)
def test_by_hand(route, first, second, bottleneck, total):
    for a, b in ((first, second), (second, first)):
        assert bottleneck_distance(a, b) == pytest.approx(bottleneck, abs=1e-12)
        assert wasserstein_distance(a, b) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("order", "norm", "alone", "moved"),
    # (0, 4) from the diagonal is 4 * 2^(1/p - 1); (0, 4) to (1, 5) is 2^(1/p).
    [(1, INF, 2, 1), (1, 2, 2 * 2**0.5, 2**0.5), (2, 2, 2 * 2**0.5, 2**0.5), (3, 1, 4, 2)],
)
def test_ground_norms_by_hand(order, norm, alone, moved):
    options = {"order": order, "ground_norm": norm}
    assert wasserstein_distance([[0, 4]], [], **options) == pytest.approx(alone)
    assert wasserstein_distance([[0, 4]], [[1, 5]], **options) == pytest.approx(moved)
    both = wasserstein_distance([[0, 4], [100, 104]], [[1, 5]], **options)
    assert both == pytest.approx((alone**order + moved**order) ** (1 / order))


@pytest.mark.parametrize("seed", range(6))
def test_persim_with_its_conventions_computes_the_same(seed, route):
    persim = pytest.importorskip("persim")
    first, second = random_diagram(20 + seed, seed), random_diagram(25, seed + 100)
    assert bottleneck_distance(first, second) == pytest.approx(persim.bottleneck(first, second))
    theirs = persim.wasserstein(first, second)
    assert wasserstein_distance(first, second, 1, ground_norm=2) == pytest.approx(theirs)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("norm", [1.0, 2.0, INF])
def test_hera_computes_the_same(order, norm):
    hera = pytest.importorskip("gudhi.hera")
    first, second = random_diagram(40, 1), random_diagram(30, 2)
    first[3, 1] = second[7, 1] = INF
    ours = wasserstein_distance(first, second, order, ground_norm=norm)
    assert ours == pytest.approx(
        hera.wasserstein_distance(first, second, order, norm, 1e-6), rel=2e-6
    )
    rough = wasserstein_distance(first, second, order, ground_norm=norm, relative_error=0.1)
    assert ours * (1 - 1e-9) <= rough <= 1.1 * ours


@settings(deadline=None)
@given(BARS, BARS)
def test_the_search_finds_what_gudhi_does(first, second):
    gudhi = pytest.importorskip("gudhi")
    first, second = (dgm[dgm[:, 0] < dgm[:, 1]] for dgm in (first, second))
    assert _bottleneck(first, second) == pytest.approx(
        gudhi.bottleneck_distance(first, second), abs=1e-12
    )


@settings(deadline=None)
@given(BARS, BARS, BARS)
def test_they_are_metrics(a, b, c):
    for distance in (bottleneck_distance, wasserstein_distance):
        assert distance(a, a) == pytest.approx(0, abs=1e-12)
        assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-9)
        assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-9


@settings(deadline=None)
@given(BARS, BARS, st.floats(1, 6))
def test_the_bottleneck_distance_is_the_least_and_bounds_the_others(a, b, order):
    # Norms decrease in their order, and the largest of k distances bounds their order-norm.
    bottleneck = bottleneck_distance(a, b)
    at_order = wasserstein_distance(a, b, order)
    assert bottleneck <= at_order * (1 + 1e-9) + 1e-12
    assert at_order <= wasserstein_distance(a, b) * (1 + 1e-9) + 1e-12
    bars = len(a) + len(b)
    assert at_order <= bottleneck * max(bars, 1) ** (1 / order) * (1 + 1e-9) + 1e-12
    assert wasserstein_distance(a, b, INF) == bottleneck


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(1e-3, 0.5))
def test_rips_diagrams_are_stable(seed, epsilon):
    # Chazal, de Silva and Oudot (2014): points that move by at most epsilon change distances, and
    # so diagrams in diameter units, by at most 2 epsilon. Infinite bars are born at 0.
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(25, 2))
    steps = rng.normal(size=points.shape)
    steps *= epsilon * rng.uniform(size=(25, 1)) / np.linalg.norm(steps, axis=1, keepdims=True)
    before, after = (rips_persistence(cloud, engine="ripser") for cloud in (points, points + steps))
    for dim in (0, 1):
        assert bottleneck_distance(before[dim], after[dim]) <= 2 * epsilon + 1e-6


@settings(deadline=None)
@given(BARS, BARS, st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from([1.0, 2.0, INF]))
def test_the_matching_takes_every_bar_once_and_costs_the_distance(first, second, order, norm):
    first = np.concatenate([[[1, INF]], first])
    pairs, alone, alone_in_second = matching(first, second, order, ground_norm=norm)
    assert sorted([*pairs[:, 0], *alone]) == list(range(1, len(first)))
    assert sorted([*pairs[:, 1], *alone_in_second]) == list(range(len(second)))
    moves = [np.linalg.norm(first[i] - second[j], norm) for i, j in pairs]
    lengths = [*np.diff(first[alone])[:, 0], *np.diff(second[alone_in_second])[:, 0]]
    moves += [length * 2 ** (1 / norm - 1) for length in lengths]
    cost = np.sum(np.power(moves, order)) ** (1 / order)
    expected = wasserstein_distance(first[1:], second, order, ground_norm=norm)
    assert cost == pytest.approx(expected, abs=1e-9)


def test_extreme_units_neither_overflow_nor_vanish():
    first, second = random_diagram(5, 3), random_diagram(4, 4)
    plain = wasserstein_distance(first, second, 3)
    for unit in (1e-200, 1e200):
        assert wasserstein_distance(unit * first, unit * second, 3) == pytest.approx(unit * plain)


@pytest.mark.parametrize("distance", [_bottleneck, wasserstein_distance])
def test_what_would_not_fit_is_refused(distance, monkeypatch):
    monkeypatch.setattr("geomprobe.memory.available_bytes", lambda: 1_000)
    with pytest.raises(MemoryEstimateError, match=r"20 and 30 bars.*Leave out the shortest"):
        distance(random_diagram(20, 0), random_diagram(30, 1))


@pytest.mark.parametrize("distance", [bottleneck_distance, wasserstein_distance])
@pytest.mark.parametrize(
    ("dgm", "message"),
    [
        ([[1, 0]], "die before their birth"),
        ([[0, np.nan]], "NaN"),
        ([[-INF, 0]], "1 bars have an infinite birth"),
        (np.zeros((2, 3)), r"shape \(n, 2\)"),
    ],
)
def test_what_is_no_diagram_is_refused(distance, dgm, message):
    with pytest.raises(ValueError, match=message):
        distance(dgm, [[0, 1]])


@pytest.mark.parametrize(
    "bad", [{"order": 0.5}, {"ground_norm": 0}, {"order": INF, "ground_norm": 2}, {"order": np.nan}]
)
def test_orders_and_norms_below_one_are_refused(bad):
    with pytest.raises(ValueError, match="order"):
        wasserstein_distance([[0, 1]], [], **bad)
    with pytest.raises(ValueError, match="order"):
        matching([[0, 1]], [], **bad)


def test_other_options_are_refused():
    with pytest.raises(ValueError, match="relative_error cannot be negative"):
        wasserstein_distance([[0, 1]], [], relative_error=-1)
    with pytest.raises(ValueError, match="order must be finite"):
        matching([[0, 1]], [], INF)
